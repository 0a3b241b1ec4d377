//! What the program takes a file's axes, channels and numbers for: the same picture is the same result however it is
//! stored, and what could mean two things is refused. What an error advises is done here, and works.

use crate::program;
use crate::tiny;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba};

use crate::program::{files, ok, refused};
use crate::restore::picture;
use crate::scratch::Scratch;
use crate::tiny::SIDE;
use crate::tiny_scratch::{scratch, scratch_with};

/// What `numpy.save` writes of elements in the order that they stand in the file.
fn npy_of(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d},")).collect();
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({dims}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn floats(shape: &[usize], data: &[f32]) -> Vec<u8> {
    npy_of("<f4", false, shape, &data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// The shape and values of a .npy file that the program wrote.
fn values(path: impl AsRef<Path>) -> (Vec<usize>, Vec<f32>) {
    let array = undiffuse::npy::read(path).unwrap();
    (array.shape, array.values)
}

/// Runs a command of words on the tiny model, with an output, and gives what it wrote.
fn made(dir: &Path, words: &str) -> (Vec<usize>, Vec<f32>) {
    let words = format!("{words} --model model --output out.npy");
    ok(dir, &words.split_whitespace().collect::<Vec<_>>());
    values(dir.join("out.npy"))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn refuses(dir: &Path, words: &str, text: &str) {
    let before = files(dir);
    let words = format!("{words} --model model");
    refused(dir, &words.split_whitespace().collect::<Vec<_>>(), 1, text);
    assert_eq!(files(dir), before, "{words}");
}

/// Grey levels that are not symmetric in any way.
fn level(x: u32, y: u32) -> u8 {
    (x * 37 + y * 11 + x * y * 5) as u8
}

fn grey(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([level(x, y)]))
}

fn colour(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([level(x, y), level(y, x), level(x + 3, y + 1)]))
}

fn save(s: &Scratch, name: &str, image: impl Into<DynamicImage>) {
    image.into().save(s.path().join(name)).unwrap();
}

const DENOISE: &str = "--sigma 0.3 --method ddrm --steps 3";

#[test]
fn a_grey_picture_is_one_picture_however_it_is_stored() {
    let s = scratch();
    let (dir, side) = (s.path(), SIDE as u32);
    let l = DynamicImage::from(grey(side, side));
    save(&s, "l.png", l.clone());
    save(&s, "la.png", l.to_luma_alpha8());
    save(&s, "rgb.png", l.to_rgb8());
    save(&s, "rgba.png", l.to_rgba8());
    save(&s, "l16.png", l.to_luma16());
    save(&s, "rgb16.png", l.to_rgb16());
    save(&s, "rgba16.png", l.to_rgba16());
    save(&s, "lossless.webp", l.to_rgb8());
    // A palette that is not in order.
    let mut palette = Vec::new();
    let mut encoder = png::Encoder::new(&mut palette, side, side);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=255u8).rev().flat_map(|v| [v; 3]).collect::<Vec<_>>());
    let indices: Vec<u8> = grey(side, side).into_raw().into_iter().map(|v| 255 - v).collect();
    encoder.write_header().unwrap().write_image_data(&indices).unwrap();
    s.write("palette.png", palette);
    s.write("u1.npy", npy_of("|u1", false, &[SIDE, SIDE], &grey(side, side).into_raw()));

    save(&s, "mask.png", GrayImage::from_fn(side, side, |_, y| Luma([if y < 4 { 255 } else { 0 }])));
    save(&s, "mask_rgba.png", DynamicImage::from(image::open(dir.join("mask.png")).unwrap().to_rgba8()));
    let commands = [
        format!("denoise FILE {DENOISE}"),
        "inpaint FILE --mask mask.png --method ddnm --steps 3".into(),
        "inpaint FILE --mask mask_rgba.png --method ddnm --steps 3".into(),
        "restore FILE --simulate --operator sr2 --method ddrm --steps 3".into(),
    ];
    for command in &commands {
        let right = made(dir, &command.replace("FILE", "l.png"));
        assert_eq!(right.0, [1, 1, SIDE, SIDE], "{command}");
        for name in "la.png rgb.png rgba.png l16.png rgb16.png rgba16.png palette.png lossless.webp u1.npy".split(' ') {
            assert_eq!(made(dir, &command.replace("FILE", name)), right, "{command} {name}");
        }
    }
    // The truth too.
    let said = |truth: &str| {
        let words = format!("denoise l.png --truth {truth} {DENOISE} --model model");
        let said = ok(dir, &words.split_whitespace().collect::<Vec<_>>());
        said.lines().last().unwrap().to_string()
    };
    assert!(said("l.png").starts_with("PSNR"));
    assert_eq!(said("rgba16.png"), said("l.png"));
}

#[test]
fn a_colour_picture_is_grey_only_when_asked() {
    let s = scratch();
    let (dir, side) = (s.path(), SIDE as u32);
    save(&s, "colour.png", colour(side, side));
    save(&s, "colour.webp", colour(side, side));
    save(&s, "grey.png", grey(side, side));
    save(&s, "large.png", colour(17, 21));
    let refusal = "the picture has colours and is [3, 8, 8], the model's are [1, 8, 8]: give --grey";
    for name in ["colour.png", "colour.webp"] {
        refuses(dir, &format!("denoise {name} {DENOISE}"), refusal);
        refuses(dir, &format!("inpaint {name} --operator half"), refusal);
        refuses(dir, &format!("inpaint grey.png --mask {name}"), "it has colours, expected grey: --grey converts it");
        refuses(dir, &format!("denoise grey.png --truth {name} {DENOISE}"), "--grey converts it");
        // What it advises.
        let (shape, x) = made(dir, &format!("denoise {name} {DENOISE} --grey"));
        assert_eq!(shape, [1, 1, SIDE, SIDE]);
        let of = |p: &Rgb<u8>| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        let data: Vec<f32> = colour(side, side).pixels().map(|p| of(p) / 127.5 - 1.0).collect();
        s.write("floats.npy", floats(&[SIDE, SIDE], &data));
        let (_, y) = made(dir, &format!("denoise floats.npy {DENOISE}"));
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-4));
    }
    let refusal = "the picture has colours and is [3, 21, 17], the model's are [1, 8, 8]: give --grey --size 20x16 --fit crop, \
                   or --grey --fit crop";
    refuses(dir, &format!("denoise large.png {DENOISE}"), refusal);
    assert_eq!(made(dir, &format!("denoise large.png {DENOISE} --grey --size 20x16 --fit crop")).0, [1, 1, 20, 16]);
    assert_eq!(made(dir, &format!("denoise large.png {DENOISE} --grey --fit crop")).0, [1, 1, SIDE, SIDE]);
}

/// The tiny model with three channels.
fn of_colours() -> Scratch {
    scratch_with(
        &tiny::model_config("")
            .replace("\"in_channels\": 1, \"out_channels\": 1", "\"in_channels\": 3, \"out_channels\": 3"),
    )
}

#[test]
fn a_grey_picture_has_colours_only_when_asked() {
    let s = of_colours();
    let (dir, side) = (s.path(), SIDE as u32);
    save(&s, "grey.png", grey(side, side));
    save(&s, "rgb.png", DynamicImage::from(grey(side, side)).to_rgb8());
    refuses(
        dir,
        &format!("denoise grey.png {DENOISE}"),
        "the picture is grey and is [1, 8, 8], the model's are [3, 8, 8]: give --colour",
    );
    let right = made(dir, &format!("denoise grey.png {DENOISE} --colour"));
    assert_eq!(right.0, [1, 3, SIDE, SIDE]);
    assert_eq!(made(dir, &format!("denoise rgb.png {DENOISE}")), right);
    // Its mask is grey, and the operator of greys measures grey.
    save(&s, "mask.png", GrayImage::from_fn(side, side, |x, _| Luma([if x < 3 { 255 } else { 0 }])));
    made(dir, "inpaint rgb.png --mask mask.png --method ddnm --steps 2");
    made(dir, "restore grey.png --operator grey --method ddnm --steps 2");
    refuses(dir, "restore grey.png --operator grey --simulate", "give --colour");
}

#[test]
fn a_photograph_is_refused_with_what_works_and_a_colour_model_takes_it() {
    let s = of_colours();
    let (dir, photo) =
        (s.path(), RgbImage::from_fn(48, 64, |x, y| Rgb([(x * 5) as u8, (y * 3) as u8, ((x + y) * 2) as u8])));
    save(&s, "photo.jpg", photo);
    // A colour model of a multiple of its size.
    let (shape, x) = made(dir, &format!("denoise photo.jpg {DENOISE} --size 64x48"));
    assert_eq!(shape, [1, 3, 64, 48]);
    assert!(x.iter().all(|v| v.is_finite()));
    refuses(dir, &format!("denoise photo.jpg {DENOISE}"), "give --size 64x48, or --fit crop");
    // The digits.
    let digits = |more: &str| {
        let words = format!("denoise photo.jpg {DENOISE} --output out.npy {more}");
        program::run(dir, &words.split_whitespace().collect::<Vec<_>>())
    };
    let said = String::from_utf8(digits("").stderr).unwrap();
    let advice = "photo.jpg: the picture has colours and is [3, 64, 48], the model's are [1, 28, 28]: give --grey --size 64x48, or \
                  --grey --fit crop";
    assert!(said.contains(advice), "{said}");
    for (more, shape) in [("--grey --size 64x48", [1, 1, 64, 48]), ("--grey --fit crop", [1, 1, 28, 28])] {
        let out = digits(more);
        assert!(out.status.success(), "{more}: {out:?}");
        assert_eq!(values(dir.join("out.npy")).0, shape);
    }
}

#[test]
fn a_size_that_is_advised_is_one_that_works() {
    let s = scratch();
    let dir = s.path();
    save(&s, "odd.png", grey(41, 25));
    save(&s, "small.png", grey(6, 5));
    refuses(
        dir,
        &format!("denoise odd.png {DENOISE}"),
        "the picture is [1, 25, 41], the model's are [1, 8, 8]: give --size 24x40 --fit crop, or --fit crop",
    );
    assert_eq!(made(dir, &format!("denoise odd.png {DENOISE} --size 24x40 --fit crop")).0, [1, 1, 24, 40]);
    assert_eq!(made(dir, &format!("denoise odd.png {DENOISE} --fit crop")).0, [1, 1, SIDE, SIDE]);
    refuses(dir, &format!("denoise small.png {DENOISE}"), "give --size 4x6 --fit crop, or --fit cover");
    assert_eq!(made(dir, &format!("denoise small.png {DENOISE} --size 4x6 --fit crop")).0, [1, 1, 4, 6]);
    assert_eq!(made(dir, &format!("denoise small.png {DENOISE} --fit cover")).0, [1, 1, SIDE, SIDE]);
    // A size that was said and cannot be.
    save(&s, "own.png", grey(8, 8));
    refuses(dir, &format!("denoise odd.png {DENOISE} --size 25x41"), "give --size 24x40 --fit crop");
    refuses(dir, &format!("denoise odd.png {DENOISE} --size 25x41 --fit crop"), "give --size 24x40 --fit crop");
    refuses(dir, &format!("denoise own.png {DENOISE} --size 25x41"), "give --size 24x40 --fit cover");
    assert_eq!(made(dir, &format!("denoise own.png {DENOISE} --size 24x40 --fit cover")).0, [1, 1, 24, 40]);
    refused(
        dir,
        &words("sample model --count 1 --size 25x41"),
        1,
        "multiples of 2 up to 8192, as 2 blocks need: give --size 24x40",
    );
    ok(dir, &words("sample model --count 1 --steps 2 --size 24x40"));
    // A model without a size of its own takes the picture's, or says which it would take.
    let s = scratch_with(&tiny::model_config("").replace("\"sample_size\": 8, ", ""));
    let dir = s.path();
    save(&s, "odd.png", grey(41, 25));
    save(&s, "even.png", grey(16, 12));
    assert_eq!(made(dir, &format!("denoise even.png {DENOISE}")).0, [1, 1, 12, 16]);
    refuses(dir, &format!("denoise odd.png {DENOISE}"), "give --size 24x40 --fit crop");
    refuses(dir, &format!("denoise odd.png {DENOISE} --fit crop"), "give --size 24x40 --fit crop");
    assert_eq!(made(dir, &format!("denoise odd.png {DENOISE} --size 24x40 --fit crop")).0, [1, 1, 24, 40]);
}

#[test]
fn axes_are_told_or_asked_for() {
    let s = scratch();
    let dir = s.path();
    let planes: Vec<f32> = (0..3 * SIDE * SIDE).map(|i| ((i * i) as f32 * 0.37).sin() * 0.9).collect();
    let (chw, n) = (|c: usize, p: usize| planes[c * SIDE * SIDE + p], SIDE * SIDE);
    let hwc: Vec<f32> = (0..n).flat_map(|p| [chw(0, p), chw(1, p), chw(2, p)]).collect();
    s.write("one.npy", floats(&[SIDE, SIDE], &planes[..n]));
    s.write("last1.npy", floats(&[SIDE, SIDE, 1], &planes[..n]));
    s.write("three.npy", floats(&[3, SIDE, SIDE], &planes));
    s.write("last3.npy", floats(&[SIDE, SIDE, 3], &hwc));
    s.write("batch.npy", floats(&[3, 1, SIDE, SIDE], &planes));
    s.write("batch_last.npy", floats(&[3, SIDE, SIDE, 1], &planes));
    let run = |name: &str, more: &str| made(dir, &format!("denoise {name} {DENOISE} {more}"));
    let refuse = |name: &str, text: &str| refuses(dir, &format!("denoise {name} {DENOISE}"), text);
    let one = run("one.npy", "");
    refuse("last1.npy", "the array has shape [8, 8, 1], whose channels seem to be last: give --axes hwc");
    assert_eq!(run("last1.npy", "--axes hwc"), one);
    let batch = run("batch.npy", "");
    assert_eq!((batch.0.as_slice(), &batch.1[..n]), (&[3, 1, SIDE, SIDE][..], &one.1[..]));
    refuse("batch_last.npy", "give --axes nhwc");
    assert_eq!(run("batch_last.npy", "--axes nhwc"), batch);
    refuse("three.npy", "give --axes nhw for pictures, or --axes chw --grey for one with colours");
    assert_eq!(run("three.npy", "--axes nhw"), batch);
    let mixed = run("three.npy", "--axes chw --grey");
    assert_eq!(mixed.0, [1, 1, SIDE, SIDE]);
    refuse("last3.npy", "give --axes hwc");
    assert_eq!(run("last3.npy", "--axes hwc --grey"), mixed);
    let words = format!("denoise last3.npy {DENOISE} --axes hwc");
    refuses(dir, &words, "the picture has colours and is [3, 8, 8], the model's are [1, 8, 8]: give --grey");
    refuses(dir, &format!("denoise one.npy {DENOISE} --axes chw"), "--axes chw is for 3 dimensions");
}

#[test]
fn numbers_are_what_their_type_says_or_somebody() {
    let s = scratch();
    let (dir, side) = (s.path(), SIDE as u32);
    let bytes = grey(side, side).into_raw();
    let shape = [SIDE, SIDE];
    s.write("u1.npy", npy_of("|u1", false, &shape, &bytes));
    let right = made(dir, &format!("denoise u1.npy {DENOISE}"));
    let wide = |width: usize| -> Vec<u8> {
        bytes.iter().flat_map(|&b| std::iter::once(b).chain(std::iter::repeat_n(0, width - 1))).collect()
    };
    for (descr, name, width) in [
        ("<u2", "uint16", 2),
        ("<i2", "int16", 2),
        ("<u4", "uint32", 4),
        ("<i4", "int32", 4),
        ("<u8", "uint64", 8),
        ("<i8", "int64", 8),
    ] {
        s.write("int.npy", npy_of(descr, false, &shape, &wide(width)));
        refuses(dir, &format!("denoise int.npy {DENOISE}"), &format!("the numbers are {name}, "));
        // What it advises.
        assert_eq!(made(dir, &format!("denoise int.npy {DENOISE} --values 0..255")), right, "{descr}");
        refuses(dir, &format!("denoise int.npy {DENOISE} --values 0..100"), "outside of 0..100: give --values");
    }
    let int8: Vec<u8> = bytes.iter().map(|&b| b / 2).collect();
    s.write("i1.npy", npy_of("|i1", false, &shape, &int8));
    refuses(dir, &format!("denoise i1.npy {DENOISE}"), "the numbers are int8, ");
    s.write("bool.npy", npy_of("|b1", false, &shape, &bytes.iter().map(|&b| b & 1).collect::<Vec<_>>()));
    refuses(dir, &format!("denoise bool.npy {DENOISE}"), "bool, which only a mask is: give --values 0..1");
    made(dir, &format!("denoise bool.npy {DENOISE} --values 0..1"));
    made(dir, "inpaint u1.npy --mask bool.npy --method ddnm --steps 2");

    // Floats: model units, unless they cannot be.
    let levels: Vec<f32> = bytes.iter().map(|&b| f32::from(b)).collect();
    s.write("levels.npy", floats(&shape, &levels));
    refuses(
        dir,
        &format!("denoise levels.npy {DENOISE}"),
        "expected -1 to 1, with noise of --sigma 0.3: give --values 0..255",
    );
    refuses(dir, "denoise levels.npy --sigma 50 --method ddrm", "give --values 0..255");
    assert_eq!(made(dir, &format!("denoise levels.npy {DENOISE} --values 0..255")), right);
    assert_eq!(made(dir, &format!("denoise levels.npy {DENOISE} --values bytes")), right);
    refuses(dir, &format!("denoise u1.npy --truth levels.npy {DENOISE}"), "give --values 0..255");
    s.write("unit.npy", floats(&shape, &levels.iter().map(|v| v / 255.0).collect::<Vec<_>>()));
    let unit = made(dir, &format!("denoise unit.npy {DENOISE} --values 0..1"));
    assert!(unit.1.iter().zip(&right.1).all(|(a, b)| (a - b).abs() < 1e-4));
    // Noise goes beyond the range.
    let noisy: Vec<f32> =
        bytes.iter().enumerate().map(|(i, &b)| f32::from(b) / 127.5 - 1.0 + (i as f32).sin()).collect();
    s.write("noisy.npy", floats(&shape, &noisy));
    made(dir, "denoise noisy.npy --sigma 0.7 --method ddrm --steps 2");
    // A picture says it itself; an option that changes nothing is refused.
    save(&s, "x.png", grey(side, side));
    for option in ["--values 0..255", "--axes hw"] {
        refuses(dir, &format!("denoise x.png {DENOISE} {option}"), "--values and --axes are for arrays");
    }
    assert_eq!(made(dir, &format!("denoise x.png --truth levels.npy {DENOISE} --values 0..255")), right);
    // Numbers that are no grey levels may be anything.
    s.write("far.npy", floats(&[1, 2], &[300.0, -2.0]));
    s.write(
        "matrix.npy",
        floats(&[2, SIDE * SIDE], &(0..2 * SIDE * SIDE).map(|i| (i as f32).cos()).collect::<Vec<_>>()),
    );
    made(dir, "restore far.npy --operator dense --matrix matrix.npy --method ddnm --steps 2");
}

/// The numbers of points and bits are no grey levels.
#[test]
fn whole_numbers_that_are_no_images_are_asked_for() {
    let s = Scratch::new("cli");
    let dir = s.path();
    let config = r#"{"_class_name": "Rbf2015", "features": 2, "units": 5, "num_train_timesteps": 9}"#;
    s.write("model/config.json", config);
    s.write("model/scheduler_config.json", r#"{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 9}"#);
    s.write("model/model.safetensors", tiny::weights(config));
    s.write("far.npy", floats(&[2], &[300.0, -20.0]));
    s.write("u1.npy", npy_of("|u1", false, &[2], &[1, 7]));
    let rest = "--sigma 1 --method exact-product";
    assert_eq!(made(dir, &format!("denoise far.npy {rest}")).0, [1, 2]);
    refuses(
        dir,
        &format!("denoise u1.npy {rest}"),
        "the numbers are uint8, expected floats where there are no images: give --values data",
    );
    made(dir, &format!("denoise u1.npy {rest} --values data"));
    // A method that does not go with the model names those that do.
    let out = program::run(dir, &words("denoise far.npy --sigma 1 --method ddrm --model model"));
    let said = String::from_utf8(out.stderr).unwrap();
    let methods = said.trim().split_once(": take --method ").unwrap().1;
    assert!(methods.split(", ").count() > 5 && !methods.contains("ddrm"), "{said}");
    for method in methods.split(", ") {
        made(dir, &format!("denoise far.npy --sigma 1 --method {method}"));
    }
    save(&s, "x.png", grey(2, 1));
    refuses(dir, &format!("denoise x.png {rest}"), "but this is a picture");
    s.write("data.npy", npy_of("|u1", false, &[3, 2], &[1, 0, 0, 1, 1, 1]));
    refused(dir, &words("evaluate model --data data.npy"), 1, "give --values data");
    ok(dir, &words("evaluate model --data data.npy --values data"));
}

#[test]
fn both_orders_of_an_array_are_the_same() {
    let s = scratch();
    let dir = s.path();
    let x: Vec<f32> = (0..SIDE * SIDE).map(|i| ((i * i) as f32 * 0.37).sin() * 0.9).collect();
    let columns: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| x[i % SIDE * SIDE + i / SIDE].to_le_bytes()).collect();
    s.write("c.npy", floats(&[SIDE, SIDE], &x));
    s.write("f.npy", npy_of("<f4", true, &[SIDE, SIDE], &columns));
    assert_eq!(made(dir, &format!("denoise f.npy {DENOISE}")), made(dir, &format!("denoise c.npy {DENOISE}")));
}

#[test]
fn transparency_is_refused_or_the_mask() {
    let s = scratch();
    let (dir, side) = (s.path(), SIDE as u32);
    let with_alpha = |alpha: &dyn Fn(u32, u32) -> u8| {
        image::RgbaImage::from_fn(side, side, |x, y| {
            let v = level(x, y);
            Rgba([v, v, v, alpha(x, y)])
        })
    };
    save(&s, "holes.png", with_alpha(&|x, _| if x < 3 { 0 } else { 255 }));
    save(&s, "soft.png", with_alpha(&|x, _| if x < 3 { 30 * x as u8 } else { 255 }));
    save(&s, "grey.png", grey(side, side));
    save(&s, "mask.png", GrayImage::from_fn(side, side, |x, _| Luma([if x < 3 { 0 } else { 255 }])));
    save(&s, "soft_mask.png", GrayImage::from_fn(side, side, |x, _| Luma([if x < 3 { 30 * x as u8 } else { 255 }])));
    let rest = "--method ddnm --steps 3";
    let right = made(dir, &format!("inpaint grey.png --mask mask.png {rest}"));
    refuses(
        dir,
        &format!("denoise holes.png {DENOISE}"),
        "24 of 64 pixels are transparent, expected an opaque picture",
    );
    refuses(dir, &format!("inpaint holes.png --mask mask.png {rest}"), "`undiffuse inpaint` with --alpha-mask");
    refuses(dir, "inpaint grey.png --mask holes.png", "transparent");
    assert_eq!(made(dir, &format!("inpaint holes.png --alpha-mask {rest}")), right);
    refuses(
        dir,
        &format!("inpaint grey.png --alpha-mask {rest}"),
        "no pixel is transparent, so that nothing is unknown: give --mask",
    );
    for words in ["inpaint soft.png --alpha-mask", "inpaint grey.png --mask soft_mask.png"] {
        refuses(dir, &format!("{words} {rest}"), "--mask-threshold 0.5 takes what is half white or more as known");
        assert_eq!(made(dir, &format!("{words} {rest} --mask-threshold 0.5")), right, "{words}");
        // 60 of 255 is more than a fifth: one column fewer is unknown.
        assert_ne!(made(dir, &format!("{words} {rest} --mask-threshold 0.2")), right, "{words}");
    }
}

/// A photograph as a telephone stores it: the pixels lie on their side, and EXIF says so.
#[test]
fn a_turned_photograph_is_turned_back() {
    let s = scratch();
    let (dir, side) = (s.path(), SIDE as u32);
    let upright = grey(side, side);
    let mut jpeg = std::io::Cursor::new(Vec::new());
    DynamicImage::from(upright).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    s.write("plain.jpg", &jpeg);
    // Orientation 3: by half a turn. After the marker of the beginning.
    let exif: &[u8] = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    s.write("turned.jpg", turned);
    let measured = |name: &str| {
        let words = format!("denoise {name} {DENOISE} --measured y.npy");
        made(dir, &words);
        values(dir.join("y.npy")).1
    };
    let (plain, mut turned) = (measured("plain.jpg"), measured("turned.jpg"));
    assert_ne!(plain, turned);
    turned.reverse();
    assert_eq!(plain, turned);
}

/// A kernel that adds up to 1 keeps pictures in their range, so that grey levels are not taken for numbers around 0.
#[test]
fn grey_levels_behind_a_kernel_are_not_taken_as_they_are() {
    let s = scratch();
    let bytes: Vec<f32> = picture(0).iter().map(|v| 127.5 * (v + 1.0)).collect();
    s.write("bytes.npy", floats(&[SIDE, SIDE], &bytes));
    for (name, tap) in [("mean.npy", 0.5), ("loud.npy", 50.0)] {
        s.write(name, floats(&[1, 2], &[tap; 2]));
    }
    let restore = |kernel: &str| {
        let words = "restore bytes.npy --operator kernel --steps 3 --model model --output out.npy --kernel";
        words.split(' ').chain(kernel.split(' ')).map(String::from).collect::<Vec<_>>()
    };
    let run = |args: Vec<String>| program::run(s.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = run(restore("mean.npy"));
    assert!(String::from_utf8_lossy(&said.stderr).contains("give --values 0..255") && !said.status.success());
    for kernel in ["mean.npy --values 0..255", "loud.npy"] {
        assert!(run(restore(kernel)).status.success(), "{kernel}");
    }
}
