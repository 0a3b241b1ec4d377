//! Pictures, measurements and masks from files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use undiffuse::npy::{self, Element};
use undiffuse::tensor::Dims;
use undiffuse::values::Values;
use undiffuse::{Error, ErrorKind, Result};

use super::reading::Reading;
use crate::arrays::Array;
use crate::output;
use crate::picture::{Picture, is_picture};

/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 32;

/// How far floats may lie outside of the range of pictures, in units of [-1, 1], beyond what noise does.
const SLACK: f64 = 1.0;
/// Standard deviations that no noise is beyond.
const DEVIATIONS: f64 = 7.0;

/// What a file holds, before it is known what it is for.
pub struct Input {
    content: Content,
    name: String,
}

enum Content {
    Picture(Picture),
    /// Numbers as they are in the file.
    Array(Array, Element),
}

/// What is known of the pictures in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Channels; 1 for a grey picture that is stored in colours.
    pub channels: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Whether it is a PNG, JPEG or WebP.
    pub is_picture: bool,
}

fn invalid(kind: ErrorKind, name: &str, text: String) -> Error {
    Error::new(kind, format!("{name}: {text}"))
}

/// The bytes of a file, or of standard input for `-`.
fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    if read? as u64 > MAX_BYTES {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("the file is longer than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

impl Input {
    /// Reads a PNG, JPEG, WebP or .npy file; its first bytes say which it is, whatever its name.
    pub fn read(path: &Path) -> Result<Self> {
        let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
        let content = bytes_of(path).and_then(|bytes| {
            if is_picture(&bytes) {
                return Ok(Content::Picture(Picture::decode(&bytes)?));
            }
            if !bytes.starts_with(b"\x93NUMPY") {
                let text = "unknown kind of file, expected a PNG, JPEG, WebP or .npy";
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            let npy::NpyArray { shape, values: data, element } = npy::parse(&bytes)?;
            if let Some(i) = data.iter().position(|v| !v.is_finite()) {
                return Err(Error::new(ErrorKind::NonFinite, format!("value {i} is not finite")));
            }
            Ok(Content::Array(Array { shape, data }, element))
        });
        Ok(Self { content: content.map_err(|e| e.context(&name))?, name })
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a PNG, JPEG or WebP, whose numbers and axes are known.
    pub fn is_picture(&self) -> bool {
        matches!(self.content, Content::Picture(_))
    }

    /// What its pictures look like, for a model of so many channels.
    pub fn look(&self, channels: usize, reading: &Reading) -> Result<Look> {
        let all = match &self.content {
            Content::Picture(p) => std::slice::from_ref(p),
            Content::Array(..) => &self.pictures(channels, reading)?,
        };
        let is_picture = self.is_picture();
        let first = all.first().ok_or_else(|| invalid(ErrorKind::Shape, &self.name, "it holds no picture".into()))?;
        let stored = first.channels;
        let channels = if stored == 3 && channels == 1 && all.iter().all(Picture::is_grey) { 1 } else { stored };
        Ok(Look { channels, size: [first.height, first.width], is_picture })
    }

    /// The pictures of a file with the numbers that stand there.
    fn pictures(&self, channels: usize, reading: &Reading) -> Result<Vec<Picture>> {
        let (array, axes) = match &self.content {
            Content::Picture(p) => return Ok(vec![p.clone()]),
            Content::Array(array, _) => (array, axes(&array.shape, channels, reading)),
        };
        let axes = axes.map_err(|text| invalid(ErrorKind::Shape, &self.name, text))?;
        // Where each axis is: its length, and how far apart its neighbours are.
        let axis = |letter: char| {
            let Some(at) = axes.find(letter) else { return (1, 0) };
            let stride = array.shape.iter().skip(at + 1).product::<usize>();
            (array.shape.get(at).copied().unwrap_or(1), stride)
        };
        let [(n, sn), (c, sc), (h, sh), (w, sw)] = ['n', 'c', 'h', 'w'].map(axis);
        let mut all = Vec::new();
        for i in 0..n {
            let mut data = Array::zeros("a picture", &[c, h, w])?.data;
            for (k, row) in data.chunks_exact_mut(w.max(1)).enumerate() {
                let start = i * sn + k / h.max(1) * sc + k % h.max(1) * sh;
                for (x, to) in row.iter_mut().enumerate() {
                    *to = array.data.get(start + x * sw).copied().unwrap_or_default();
                }
            }
            all.push(Picture { channels: c, height: h, width: w, data, alpha: None });
        }
        Ok(all)
    }

    /// `[N, ...dims]` in the model's units: grey levels become -1 to 1. A picture or several for `dims` of images;
    /// otherwise the array's shape must be that of one item, or of N. `noise` is the standard deviation of the noise on
    /// values from -1 to 1, if that is what they are.
    ///
    /// Errors: kind `Shape` for anything else; kind `InvalidArgument` for numbers that nobody said what they are, or
    /// that they cannot be.
    pub fn items(&self, what: &str, dims: &Dims, reading: &Reading, noise: Option<f64>) -> Result<Array> {
        let expected = dims.as_slice();
        let shape = |text: String| invalid(ErrorKind::Shape, &self.name, text);
        let mut array = match (expected, &self.content) {
            (&[channels, h, w], _) => {
                let mut all = Vec::new();
                let pictures = self.pictures(channels, reading)?;
                let count = pictures.len();
                for picture in pictures {
                    let mut picture = self.convert(picture, channels, reading)?;
                    if let (Some(fit), Content::Picture(_)) = (reading.fit, &self.content) {
                        picture = picture.fit([h, w], fit).map_err(|e| e.context(&self.name))?;
                    }
                    if [picture.height, picture.width] != [h, w] {
                        let got = [picture.channels, picture.height, picture.width];
                        return Err(shape(format!("{what} has shape {got:?}, expected {expected:?}")));
                    }
                    all.extend(picture.data);
                }
                if count == 0 {
                    return Err(shape(format!("{what} is empty, expected {expected:?} or [N, ...] of it")));
                }
                Array { shape: [&[count], expected].concat(), data: all }
            }
            (_, Content::Picture(p)) => {
                let got = [p.channels, p.height, p.width];
                return Err(shape(format!("{what} is {expected:?}, but this is a picture, {got:?}: give a .npy file")));
            }
            (_, Content::Array(array, _)) => {
                let count = match array.shape.split_first() {
                    _ if array.shape == expected => 1,
                    Some((&n, rest)) if n > 0 && rest == expected => n,
                    _ => {
                        let got = &array.shape;
                        return Err(shape(format!(
                            "{what} has shape {got:?}, expected {expected:?} or [N, ...] of it"
                        )));
                    }
                };
                Array { shape: [&[count], expected].concat(), data: array.data.clone() }
            }
        };
        match &self.content {
            Content::Picture(_) => array.data.iter_mut().for_each(|v| *v = *v / 127.5 - 1.0),
            Content::Array(_, element) => {
                // Only of images is it known where their values lie.
                let of_images = expected.len() == 3;
                self.scale(&mut array.data, *element, reading, noise.filter(|_| of_images), of_images)?;
            }
        }
        Ok(array)
    }

    /// Brings the numbers of an array to [-1, 1].
    fn scale(
        &self,
        data: &mut [f32],
        element: Element,
        reading: &Reading,
        noise: Option<f64>,
        of_images: bool,
    ) -> Result<()> {
        let wrong = |text: String| Err(invalid(ErrorKind::InvalidArgument, &self.name, text));
        let usual = Values::usual(element).filter(|v| of_images || *v == Values::Data);
        let Some(values) = reading.values.or(usual) else {
            let name = element.name();
            return match element {
                Element::Bool => wrong(
                    "the numbers are bool, which only a mask is: give --values 0..1 for black and white pictures"
                        .into(),
                ),
                _ if !of_images => wrong(format!(
                    "the numbers are {name}, expected floats where there are no images: give --values data to take them as \
                     they are"
                )),
                _ => wrong(format!(
                    "the numbers are {name}, grey levels of a range that the type does not say: give --values 0..255, or what it is"
                )),
            };
        };
        let most = |data: &[f32]| data.iter().fold(0.0f32, |m, v| if v.abs() > m.abs() { *v } else { m });
        let raw = output::number(most(data));
        match values {
            // In the arithmetic of pictures, so that the same grey levels are the same bits.
            Values::Bytes => data.iter_mut().for_each(|v| *v = *v / 127.5 - 1.0),
            other => other.scale().apply(data),
        }
        let whole = !matches!(element, Element::F16 | Element::F32 | Element::F64);
        let most = f64::from(most(data).abs());
        if whole && values != Values::Data {
            // Grey levels have no noise beyond their range.
            if most > 1.0 + 1e-6 {
                return wrong(format!("the numbers go to {raw}, outside of {values}: give --values with their range"));
            }
            return Ok(());
        }
        let (Some(sigma), false) = (noise, reading.values == Some(Values::Data)) else { return Ok(()) };
        let mean = data.iter().map(|v| f64::from(v.abs())).sum::<f64>() / data.len().max(1) as f64;
        // The mean of |x + sigma z| is at most 1 + 0.8 sigma.
        if most > 1.0 + SLACK + DEVIATIONS * sigma || mean > 1.0 + SLACK / 4.0 + sigma {
            let was = if reading.values.is_some() { "outside of --values" } else { "expected -1 to 1" };
            let noise = if sigma > 0.0 { format!(", with noise of --sigma {sigma}") } else { String::new() };
            return wrong(format!(
                "the numbers go to {raw}, {was}{noise}: give --values 0..255 for grey levels, \
                 0..1 for shares of white, data if they are meant as they are"
            ));
        }
        // No model's picture is without anything darker than middle grey, but many a program writes shares of white.
        let shares = reading.values.is_none() && data.len() > 16 && data.iter().all(|v| (0.0..=1.0).contains(v));
        if shares && data.iter().any(|v| Some(v) != data.first()) {
            output::note(&format!(
                "{}: all numbers lie in 0 to 1 and are taken as -1 to 1, middle grey to white; --values 0..1 if 0 is black",
                self.name
            ))?;
        }
        Ok(())
    }

    /// A picture with the model's channels, if that changes nothing that was not asked for.
    fn convert(&self, picture: Picture, channels: usize, reading: &Reading) -> Result<Picture> {
        let Picture { channels: stored, height, width, .. } = picture;
        let text = match (stored, channels) {
            (stored, wanted) if stored == wanted => return Ok(picture),
            (3, 1) if reading.grey || picture.is_grey() => return Ok(picture.into_grey()),
            (1, 3) if reading.colour => return Ok(picture.into_colour()),
            (3, 1) => "it has colours, expected grey: --grey converts it".to_string(),
            (1, 3) => "it is grey, expected colours: --colour repeats its channel".to_string(),
            (_, wanted) => format!("expected {wanted} channels"),
        };
        Err(invalid(ErrorKind::Shape, &self.name, format!("the picture is {:?}, {text}", [stored, height, width])))
    }

    /// The raw numbers of an array, for a kernel or a matrix.
    pub fn numbers(&self) -> Result<&Array> {
        match &self.content {
            Content::Array(array, _) => Ok(array),
            Content::Picture(_) => {
                Err(invalid(ErrorKind::InvalidArgument, &self.name, "a picture, expected a .npy file".into()))
            }
        }
    }

    /// Refuses a picture that is transparent somewhere.
    pub fn check_opaque(&self) -> Result<()> {
        match &self.content {
            Content::Picture(Picture { alpha: Some(alpha), .. }) => {
                let (seen, all) = (alpha.iter().filter(|&&a| a < 1.0).count(), alpha.len());
                let text = format!(
                    "{seen} of {all} pixels are transparent, expected an opaque picture: `undiffuse inpaint` with \
                     --alpha-mask takes them as unknown"
                );
                Err(invalid(ErrorKind::Unsupported, &self.name, text))
            }
            _ => Ok(()),
        }
    }

    /// A mask for samples of `dims`: one flag for each position or each element, true (known) where the file is white:
    /// 255, 1 or True, and false where it is 0. Other values need a threshold.
    pub fn mask(&self, dims: &Dims, reading: &Reading) -> Result<Vec<bool>> {
        self.check_opaque()?;
        let &[channels, h, w] = dims.as_slice() else {
            return Err(invalid(ErrorKind::Shape, &self.name, format!("a mask is for pictures, not for {dims}")));
        };
        // The axes that are said are the picture's; a mask may have fewer.
        let mut own = reading.clone();
        if let Content::Array(array, _) = &self.content {
            own.axes = own.axes.filter(|a| a.len() == array.shape.len());
        }
        let mut pictures = self.pictures(channels, &own)?;
        let (Some(mut mask), true) = (pictures.pop(), pictures.is_empty()) else {
            return Err(invalid(ErrorKind::Shape, &self.name, "expected one mask".into()));
        };
        let (white, is_picture) = match &self.content {
            Content::Picture(_) => (255.0, true),
            Content::Array(array, _) => (if array.data.contains(&255.0) { 255.0 } else { 1.0 }, false),
        };
        let mut threshold = reading.threshold;
        if is_picture {
            mask = self.convert(mask, 1, reading)?;
            if let Some(fit) = reading.fit {
                mask = mask.fit([h, w], fit).map_err(|e| e.context(&self.name))?;
                // Resizing makes values between.
                threshold = threshold.or(Some(0.5));
            }
        }
        if [mask.height, mask.width] != [h, w] || !(mask.channels == 1 || mask.channels == channels) {
            let got = [mask.channels, mask.height, mask.width];
            let text = format!("the mask has shape {got:?}, expected {:?} or {:?}", [h, w], dims.as_slice());
            return Err(invalid(ErrorKind::Shape, &self.name, text));
        }
        self.known(&mask.data, white, threshold)
    }

    /// Which pixels are not transparent, for samples of `dims`.
    pub fn alpha_mask(&self, dims: &Dims, reading: &Reading) -> Result<Vec<bool>> {
        let &[_, h, w] = dims.as_slice() else {
            return Err(invalid(ErrorKind::Shape, &self.name, format!("alpha is of pictures, not of {dims}")));
        };
        let Content::Picture(picture) = &self.content else {
            return Err(invalid(ErrorKind::InvalidArgument, &self.name, "an array has no alpha: give --mask".into()));
        };
        let (fitted, mut threshold) = match reading.fit {
            Some(fit) => (picture.fit([h, w], fit).map_err(|e| e.context(&self.name))?, Some(0.5)),
            None => (picture.clone(), None),
        };
        threshold = reading.threshold.or(threshold);
        let Some(alpha) = fitted.alpha.filter(|_| [fitted.height, fitted.width] == [h, w]) else {
            let text = "no pixel is transparent, so that nothing is unknown: give --mask".into();
            return Err(invalid(ErrorKind::InvalidArgument, &self.name, text));
        };
        self.known(&alpha, 1.0, threshold)
    }

    fn known(&self, values: &[f32], white: f32, threshold: Option<f32>) -> Result<Vec<bool>> {
        let wrong = |text: String| Err(invalid(ErrorKind::InvalidArgument, &self.name, text));
        let Some(threshold) = threshold else {
            if let Some(v) = values.iter().find(|&&v| v != 0.0 && v != white) {
                let advice = match values.iter().all(|v| (0.0..=white).contains(v)) {
                    true => ": --mask-threshold 0.5 takes what is half white or more as known",
                    false => "",
                };
                return wrong(format!(
                    "the mask holds {v}, expected 0 for unknown and {white} for known and nothing else{advice}"
                ));
            }
            return Ok(values.iter().map(|&v| v == white).collect());
        };
        if let Some(v) = values.iter().find(|v| !(0.0..=white).contains(*v)) {
            return wrong(format!("the mask holds {v}, expected 0 to {white}"));
        }
        Ok(values.iter().map(|&v| v >= threshold * white).collect())
    }
}

/// The axes of an array of pictures for a model of so many channels: what was said, or what its shape leaves no doubt
/// of.
fn axes(shape: &[usize], channels: usize, reading: &Reading) -> std::result::Result<&'static str, String> {
    if let Some(axes) = reading.axes {
        return match axes.len() == shape.len() {
            true => Ok(axes),
            false => Err(format!("--axes {axes} is for {} dimensions, the array has shape {shape:?}", axes.len())),
        };
    }
    // Channels may be 1, 3 (colours) or 4 (with alpha), and pictures are larger than that.
    let few = |n: usize| matches!(n, 1 | 3 | 4) || n == channels;
    let last =
        |axes: &str| Err(format!("the array has shape {shape:?}, whose channels seem to be last: give --axes {axes}"));
    match *shape {
        [_, _] => Ok("hw"),
        [a, b, c] if few(c) && !few(a) && b > 4 => last("hwc"),
        [1, _, _] => Ok("chw"),
        [3, _, _] if channels == 1 && reading.grey => Ok("chw"),
        [n @ (3 | 4), _, _] if channels == 1 => Err(format!(
            "the array has shape {shape:?}, which may be {n} grey pictures or {n} channels of one: give --axes nhw for \
             pictures{}",
            if n == 3 { ", or --axes chw --grey for one with colours" } else { "" }
        )),
        [_, _, _] if channels == 1 => Ok("nhw"),
        [_, _, _] => Ok("chw"),
        [_, a, b, c] if few(c) && !few(a) && b > 4 => last("nhwc"),
        [_, _, _, _] => Ok("nchw"),
        _ => Err(format!("the array has shape {shape:?}, expected [H, W], [C, H, W] or [N, C, H, W]")),
    }
}
