//! A folder of PNG images.

use alloc::vec::Vec;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::{Dataset, read_bounded, room};
use crate::error::{Error, Result, ensure, err};
use crate::memory::zeros;
use crate::npy::Element;
use crate::tensor::Dims;

/// The largest image, in bytes once decoded: 64 MiB.
const MAX_IMAGE: usize = 1 << 26;

/// The channels that images are read as, and what is done with an image that has others. A grey image that is stored as
/// RGB, with alpha or with a palette is grey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colors {
    /// One channel; an image with colours is refused.
    #[default]
    Grey,
    /// Three; an image that is stored as grey is refused.
    Rgb,
    /// One; colours become 0.299 R + 0.587 G + 0.114 B, not rounded.
    ToGrey,
    /// Three; grey becomes the same three times.
    ToRgb,
}

impl Colors {
    /// The names of configurations.
    pub const NAMES: [(&'static str, Self); 4] =
        [("grey", Self::Grey), ("rgb", Self::Rgb), ("to_grey", Self::ToGrey), ("to_rgb", Self::ToRgb)];

    /// How many channels an image then has.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey | Self::ToGrey => 1,
            Self::Rgb | Self::ToRgb => 3,
        }
    }
}

/// All files of a folder (not of folders in it) whose names end in `.png`, in the order of their names, as samples of
/// `[C, H, W]` with values of 0 to 255. 16-bit images are read by their upper bytes.
///
/// Errors: kind `InvalidArgument` if there is none, they differ in size, one is larger than 64 MiB, is transparent
/// somewhere or is no PNG; kind `Shape` for channels that `colors` refuses; kind `Io`. The message names the file.
pub fn read_png_folder(folder: &Path, colors: Colors) -> Result<Dataset> {
    let named = |e: std::io::Error| Error::from(e).context(folder.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all: Option<(Dims, Vec<f32>)> = None;
    for path in &paths {
        let (dims, values) = decode(&read_bounded(path)?, colors).map_err(|e| e.context(path.display()))?;
        let (first, out) = match &mut all {
            Some(all) => all,
            none => none.insert((dims, room("the images", paths.len(), &dims)?)),
        };
        ensure!(
            dims == *first,
            InvalidArgument,
            "{}: the image is {dims}, the first of the folder is {first}",
            path.display()
        );
        out.extend(values);
    }
    let (dims, values) =
        all.ok_or_else(|| err!(InvalidArgument, "{}: the folder holds no .png file", folder.display()))?;
    Ok(Dataset::new(dims, values)?.of_element(Element::U8))
}

/// The one image in the bytes of a PNG file, as [`read_png_folder`] reads it.
///
/// Errors: kind `InvalidArgument` for an image larger than 64 MiB, one that is transparent somewhere, or bytes that are
/// no PNG; kind `Shape` for channels that `colors` refuses.
pub fn parse_png(bytes: &[u8], colors: Colors) -> Result<Dataset> {
    let (dims, values) = decode(bytes, colors)?;
    Ok(Dataset::new(dims, values)?.of_element(Element::U8))
}

fn decode(bytes: &[u8], colors: Colors) -> Result<(Dims, Vec<f32>)> {
    let malformed = |e: png::DecodingError| err!(InvalidArgument, "the PNG cannot be read: {e}");
    let limits = png::Limits { bytes: MAX_IMAGE };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Palettes become colours, few bits and 16 bits become 8.
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(malformed)?;
    let size = reader
        .output_buffer_size()
        .filter(|&n| n <= MAX_IMAGE)
        .ok_or_else(|| err!(InvalidArgument, "the image has more than {MAX_IMAGE} bytes"))?;
    let mut pixels = zeros("an image", size)?;
    let info = reader.next_frame(&mut pixels).map_err(malformed)?;
    let (stored, alpha) = match info.color_type {
        png::ColorType::Grayscale => (1, false),
        png::ColorType::GrayscaleAlpha => (1, true),
        png::ColorType::Rgb => (3, false),
        png::ColorType::Rgba => (3, true),
        png::ColorType::Indexed => return Err(err!(Unsupported, "the image has a palette that stayed")),
    };
    let (width, height) = (info.width as usize, info.height as usize);
    let dims = Dims::new(&[colors.channels(), height, width])?;
    let used = pixels.get(..info.buffer_size()).unwrap_or(&pixels);
    let each = || used.chunks_exact(stored + usize::from(alpha));
    ensure!(
        !alpha || each().all(|p| p.last() == Some(&255)),
        InvalidArgument,
        "the image is transparent somewhere, expected opaque grey or RGB"
    );
    let grey = stored == 1 || each().all(|p| p.first() == p.get(1) && p.first() == p.get(2));
    ensure!(
        colors != Colors::Grey || grey,
        Shape,
        "the image has colours, [3, {height}, {width}], expected grey, {dims}: to_grey converts it, rgb reads it as it is"
    );
    ensure!(
        colors != Colors::Rgb || stored == 3,
        Shape,
        "the image is grey, [1, {height}, {width}], expected colours, {dims}: to_rgb repeats its channel, grey reads it as it is"
    );
    let mut values = room("the image", 1, &dims)?;
    if colors.channels() == 3 {
        for c in 0..3 {
            values.extend(each().map(|p| f32::from(p.get(c.min(stored - 1)).copied().unwrap_or(0))));
        }
    } else if grey {
        values.extend(each().map(|p| f32::from(p.first().copied().unwrap_or(0))));
    } else {
        let weights = [0.299f32, 0.587, 0.114];
        values.extend(each().map(|p| p.iter().zip(weights).map(|(&v, w)| w * f32::from(v)).sum::<f32>()));
    }
    Ok((dims, values))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn write(path: &Path, color: png::ColorType, width: u32, height: u32, data: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let folder = std::env::temp_dir().join(alloc::format!("undiffuse-png-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(read_png_folder(&folder, Colors::Grey).unwrap_err().message().contains("no .png"));
        write(&folder.join("b.png"), png::ColorType::Grayscale, 2, 1, &[7, 9]);
        write(&folder.join("a.PNG"), png::ColorType::Rgb, 2, 1, &[10, 20, 30, 1, 2, 3]);
        fs::write(folder.join("note.txt"), "no image").unwrap();
        // What the refusals advise works.
        for (colors, file, advice) in [
            (Colors::Grey, "a.PNG: the image has colours, [3, 1, 2], expected grey, [1, 1, 2]", "to_grey"),
            (Colors::Rgb, "b.png: the image is grey, [1, 1, 2], expected colours, [3, 1, 2]", "to_rgb"),
        ] {
            let e = read_png_folder(&folder, colors).unwrap_err();
            assert!(e.message().contains(file) && e.message().contains(advice), "{e}");
        }
        let grey = read_png_folder(&folder, Colors::ToGrey).unwrap();
        assert_eq!((grey.count(), grey.dims().as_slice()), (2, &[1, 1, 2][..]));
        assert!((grey.sample(0)[0] - (2.99 + 11.74 + 3.42)).abs() < 1e-4);
        assert_eq!(grey.sample(1), [7.0, 9.0]);
        let rgb = read_png_folder(&folder, Colors::ToRgb).unwrap();
        assert_eq!(rgb.sample(0), [10.0, 1.0, 20.0, 2.0, 30.0, 3.0]);
        assert_eq!(rgb.sample(1), [7.0, 9.0, 7.0, 9.0, 7.0, 9.0]);

        write(&folder.join("c.png"), png::ColorType::Rgba, 2, 1, &[0; 8]);
        let e = read_png_folder(&folder, Colors::ToRgb).unwrap_err();
        assert!(e.message().contains("c.png: the image is transparent"), "{e}");
        write(&folder.join("c.png"), png::ColorType::Grayscale, 1, 2, &[0; 2]);
        let e = read_png_folder(&folder, Colors::ToRgb).unwrap_err();
        assert!(e.message().contains("c.png: the image is [3, 2, 1]"), "{e}");
        let whole = fs::read(folder.join("b.png")).unwrap();
        for cut in [0, 8, 20, 40, whole.len() - 13] {
            fs::write(folder.join("b.png"), &whole[..cut]).unwrap();
            assert!(read_png_folder(&folder, Colors::ToGrey).is_err(), "cut at {cut}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_grey_image_in_colour_form_is_grey() {
        let file = |color, palette: Option<&[u8]>, data: &[u8]| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
            encoder.set_color(color);
            encoder.set_depth(png::BitDepth::Eight);
            if let Some(palette) = palette {
                encoder.set_palette(palette.to_vec());
            }
            encoder.write_header().unwrap().write_image_data(data).unwrap();
            bytes
        };
        use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        for (color, palette, data) in [
            (Grayscale, None, &[7, 9][..]),
            (GrayscaleAlpha, None, &[7, 255, 9, 255]),
            (Rgb, None, &[7, 7, 7, 9, 9, 9]),
            (Rgba, None, &[7, 7, 7, 255, 9, 9, 9, 255]),
            (Indexed, Some(&[9, 9, 9, 7, 7, 7][..]), &[1, 0]),
        ] {
            for colors in [Colors::Grey, Colors::ToGrey] {
                let data = parse_png(&file(color, palette, data), colors).unwrap();
                assert_eq!((data.values(), data.dims().as_slice()), (&[7.0, 9.0][..], &[1, 1, 2][..]), "{color:?}");
            }
        }
    }
}
