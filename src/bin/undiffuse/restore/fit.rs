//! Whether pictures are what the model takes; if not, what would work.

use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::pipeline::Source;
use undiffuse::{Error, ErrorKind, Result};

use super::input::{Input, Look};
use super::operator::OperatorArgs;
use super::reading::Reading;
use crate::source::{ModelArgs, near};

/// What an error calls the pictures of a file.
fn described(look: &Look, wanted: usize) -> String {
    let [h, w] = look.size;
    let kind = match look.channels {
        3 if wanted == 1 => "the picture has colours and",
        1 if wanted == 3 => "the picture is grey and",
        _ => "the picture",
    };
    format!("{kind} is {:?}", [look.channels, h, w])
}

/// Checks that the pictures have the channels and the size of the model's, unless options say what is done with others.
/// Where the model has no size of its own, or takes `any_size`, it takes that of the pictures.
///
/// They are measurements by `operator`; without one they are pictures as the model makes them, or as `encoder` makes
/// latents of them. The size that `model` and `--size` have is always the samples'.
///
/// Errors (kind `Shape`) name the options that would work, all that it takes.
pub fn check(
    model: &mut ModelArgs,
    source: &Source<'_>,
    input: &Input,
    reading: &Reading,
    operator: Option<&OperatorArgs>,
    any_size: bool,
    encoder: Option<&AutoencoderConfig>,
) -> Result<()> {
    // Advice on pictures would not help, and what would is said when the model is compiled.
    if source.is_latent() && model.refuses_latents() {
        return Ok(());
    }
    let of_samples = source.model().channels();
    let Some(model_channels) = encoder.map_or(of_samples, |e| Some(e.in_channels)) else { return Ok(()) };
    // Pixels for a value of a sample each way.
    let factor = encoder.map_or(1, AutoencoderConfig::encoder_factor);
    let pixels = |size: [usize; 2]| size.map(|n| n.saturating_mul(factor));
    let within = |size: [usize; 2]| size.map(|n| n / factor);
    let option = |size: [usize; 2]| {
        let [h, w] = within(size);
        format!("--size {h}x{w}")
    };
    let measured = operator.filter(|o| !o.sees_whole());
    let Some(wanted) = measured.map_or(Some(model_channels), |o| o.channels(model_channels)) else {
        return Ok(());
    };
    let own = source.model().sample_size().filter(|_| !any_size).map(pixels);
    // What is wrong with the model itself is said when it is compiled.
    if own.is_some() && source.graph(None).is_err() {
        return Ok(());
    }
    let look = input.look(wanted, reading)?;
    // The size of the model's pictures behind what is seen, which a smaller picture is a measurement of.
    let behind = |size: [usize; 2]| measured.map_or(Some(size), |o| o.picture_size(size));
    let Some([h, w]) = behind(look.size) else { return Ok(()) };
    let takes_within = |size: [usize; 2]| source.graph(Some(within(size))).is_ok();
    let takes = |size: [usize; 2]| any_size || (pixels(within(size)) == size && takes_within(size));
    // The largest size within another that it takes, if it is not that one.
    let near = |size: [usize; 2]| {
        let found = if takes_within(size) { Some(within(size)) } else { near(source, within(size)) };
        found.map(pixels).filter(|found| *found != size)
    };
    let said = model.size().map(pixels);

    let fitted = reading.fit.is_some() && look.is_picture;
    if reading.fit.is_some() && !look.is_picture {
        let text = format!("{}: --fit is for PNG, JPEG and WebP: cut or resize the array before", input.name());
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    let target = said.or(own);
    let channels = match (look.channels, wanted) {
        (3, 1) if !reading.grey => Some("--grey"),
        (1, 3) if !reading.colour => Some("--colour"),
        _ => None,
    };
    let fits = match target {
        Some(target) if !takes(target) => false,
        _ if fitted => target.is_some(),
        Some(target) => target == [h, w],
        None => takes([h, w]),
    };
    if fits && channels.is_none() {
        if target.is_none() {
            model.set_size(within([h, w]));
        }
        return Ok(());
    }

    // No option makes other channels of these, and a size would be advice that does not help.
    let convertible = matches!((look.channels, wanted), (1, 3) | (3, 1));
    if look.channels != wanted && !convertible {
        let model_is = match target {
            Some([h, w]) => format!("{:?}", [wanted, h, w]),
            None => format!("of {wanted} channels"),
        };
        return refuse(input, &described(&look, wanted), &model_is, &[], None);
    }

    let mut ways = Vec::new();
    // What cuts the picture to a size, or enlarges it.
    let cut = |[t_h, t_w]: [usize; 2]| if h < t_h || w < t_w || operator.is_none() { "cover" } else { "crop" };
    let may_be_cut = look.is_picture && operator.is_none_or(keeps_size);
    match (said, target) {
        _ if fits => ways.push(String::new()),
        (Some(said), _) if !takes(said) => {
            if let Some(near) = near(said) {
                let cut = if may_be_cut { format!(" --fit {}", cut(near)) } else { String::new() };
                ways.push(format!("{}{cut}", option(near)));
            }
        }
        (said, target) => {
            if said.is_none() && !fitted && takes([h, w]) {
                ways.push(option([h, w]));
            } else if let (None, true, Some(near)) = (said, may_be_cut, near([h, w])) {
                ways.push(format!("{} --fit crop", option(near)));
            }
            if let (Some(target), true) = (target, look.is_picture) {
                ways.push(format!("--fit {}", cut(target)));
            }
        }
    }
    let [at_h, at_w] = target.unwrap_or([h, w]);
    let model_is = match target {
        Some(_) => format!("{:?}", [wanted, at_h, at_w]),
        None if factor > 1 => format!("of {wanted} channels, with sides that are multiples of {factor}"),
        None => format!("of {wanted} channels"),
    };
    if look.size != [h, w] && !fits {
        let model_is = format!("{at_h}x{at_w}");
        let seen = format!("the picture is {h}x{w} of which {:?} is a measurement", look.size);
        return refuse(input, &seen, &model_is, &ways, channels);
    }
    refuse(input, &described(&look, wanted), &model_is, &ways, channels)
}

/// Whether what is measured has the size of the model's pictures, and is no smaller measurement of one.
fn keeps_size(operator: &OperatorArgs) -> bool {
    operator.picture_size([1, 1]) == Some([1, 1])
}

fn refuse(input: &Input, seen: &str, model_is: &str, ways: &[String], channels: Option<&str>) -> Result<()> {
    let ways: Vec<String> = ways
        .iter()
        .map(|way| channels.into_iter().chain((!way.is_empty()).then_some(way.as_str())).collect::<Vec<_>>().join(" "))
        .collect();
    let advice = if ways.is_empty() { String::new() } else { format!(": give {}", ways.join(", or ")) };
    Err(Error::new(ErrorKind::Shape, format!("{}: {seen}, the model's are {model_is}{advice}", input.name())))
}
