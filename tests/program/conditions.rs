//! Conditions and guidance from files, as a person gives them.

use crate::formats::{bytes_of, npy, safetensors, tensor, words};
use crate::pcg;
use crate::program::{ok, refused};
use crate::scratch::Scratch;
use crate::tiny::{self, SIDE};
use crate::tiny_scratch::scratch_with;
use std::path::Path;

const PIXELS: usize = SIDE * SIDE;

/// A class model that sees an image of one channel beside x.
fn model() -> Scratch {
    let config = tiny::model_config(", \"num_class_embeds\": 4").replace("\"in_channels\": 1", "\"in_channels\": 2");
    scratch_with(&config)
}

fn samples(dir: &Path, text: &str) -> Vec<f32> {
    ok(dir, &words(&format!("sample model --sampler ddim --steps 2 --count 2 {text} --output out.safetensors")));
    tensor(dir, "out.safetensors", "x_0")
}

/// A grey PNG of the model's size, and what its pixels mean.
fn png(dir: &Path) -> Vec<f32> {
    let grey: Vec<u8> = (0..PIXELS).map(|i| (i * 4) as u8).collect();
    let side = SIDE as u32;
    image::save_buffer(dir.join("low.png"), &grey, side, side, image::ExtendedColorType::L8).unwrap();
    grey.iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect()
}

#[test]
fn an_image_comes_from_a_picture_or_an_array_and_each_sample_has_its_own() {
    let s = model();
    let dir = s.path();
    let low = png(dir);
    let other = pcg::uniform(3, 0, PIXELS, 1.0);
    s.write("low.npy", npy("<f4", "1, 8, 8", &bytes_of(&low)));
    s.write("two.npy", npy("<f4", "2, 1, 8, 8", &bytes_of(&[low.as_slice(), &other].concat())));
    s.write(
        "two.safetensors",
        safetensors(&[("image", &[2, 1, 8, 8], &[low.as_slice(), &other].concat()), ("x", &[1], &[0.0])]),
    );
    let picture = samples(dir, "--class 1 --condition image=low.png");
    assert_eq!(picture, samples(dir, "--class 1 --condition image=low.npy"));
    let two = samples(dir, "--class 1 --condition image=two.npy");
    assert_eq!(two, samples(dir, "--class 1 --condition image=two.safetensors --batch 1 --threads 1"));
    assert!(two[..PIXELS] == picture[..PIXELS] && two[PIXELS..] != picture[PIXELS..]);
    // The listing that tells what to give.
    let said = ok(dir, &words("info model"));
    assert!(said.contains("image [1, 8, 8], image, f32") && said.contains("whole number, 0 to 3"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&ok(dir, &words("info model --json"))).unwrap();
    assert_eq!(json["inputs"][1]["name"], "image");
    assert_eq!(json["inputs"][3]["classes"], 4);
    // One call, as diffusers' class is called, and with the image apart.
    let x = pcg::uniform(3, 1, PIXELS, 1.0);
    let both = [x.as_slice(), &low].concat();
    let rest: [(&str, &[usize], &[f32]); 2] = [("timestep", &[], &[7.0]), ("class_labels", &[1], &[2.0])];
    s.write("both.safetensors", safetensors(&[&[("sample", &[1, 2, 8, 8][..], both.as_slice())], &rest[..]].concat()));
    s.write("apart.safetensors", safetensors(&[&[("sample", &[1, 1, 8, 8][..], x.as_slice())], &rest[..]].concat()));
    ok(dir, &words("predict model --input both.safetensors --output a.safetensors"));
    ok(dir, &words("predict model --input apart.safetensors --condition image=low.png --output b.safetensors"));
    assert_eq!(tensor(dir, "a.safetensors", "sample"), tensor(dir, "b.safetensors", "sample"));
    refused(
        dir,
        &words("predict model --input apart.safetensors --output c.safetensors"),
        1,
        "tensor image is missing",
    );
    // A posterior of such a model.
    ok(
        dir,
        &words(
            "denoise low.png --model model --sigma 0.3 --steps 2 --class 1 --condition image=low.png --output d.npy",
        ),
    );
    ok(dir, &words("bench model --calls 1"));
}

#[test]
fn guidance_goes_through_and_scale_one_changes_nothing() {
    let s = model();
    let dir = s.path();
    png(dir);
    let with = |text: &str| samples(dir, &format!("--class 1 --condition image=low.png {text}"));
    let plain = with("");
    assert_eq!(plain, with("--guidance 1 --negative-class 3"));
    let guided = with("--guidance 3 --negative-class 3");
    assert_ne!(plain, guided);
    assert_eq!(guided, with("--guidance 3 --negative-class 3 --batch 1 --threads 1"));
    assert_ne!(guided, with("--guidance 3 --negative-class 3 --guidance-rescale 0.7"));
    assert_eq!(plain, with("--guidance 3 --negative-class 3 --guidance-interval 1e6,2e6"));
    s.write("none.npy", npy("<f4", "1, 8, 8", &bytes_of(&[0.0; PIXELS])));
    assert_ne!(guided, with("--guidance 3 --negative-class 3 --negative image=none.npy"));
}

#[test]
fn what_does_not_suit_is_refused_by_name() {
    let s = model();
    let dir = s.path();
    png(dir);
    s.write("small.npy", npy("<f4", "1, 4, 4", &bytes_of(&[0.0; 16])));
    s.write("whole.npy", npy("|u1", "1, 8, 8", &[7; PIXELS]));
    s.write("nan.npy", npy("<f4", "1, 8, 8", &bytes_of(&[f32::NAN; PIXELS])));
    s.write("other.safetensors", safetensors(&[("mask", &[1, 8, 8], &[0.0; PIXELS])]));
    s.write("text.txt", "no picture");
    for (text, code, said) in [
        ("--class 1", 1, "give --condition image=FILE"),
        ("--class 1 --condition mask=low.png", 1, "no such condition, expected image"),
        ("--class 1 --condition image", 2, "expected NAME=FILE"),
        ("--class 1 --condition image=low.png --condition image=low.png", 2, "gives image twice"),
        ("--class 1 --condition image=small.npy", 1, "expected [1, 8, 8] or [N, 1, 8, 8]"),
        ("--class 1 --condition image=whole.npy", 1, "whole numbers"),
        ("--class 1 --condition image=nan.npy", 1, "\"image\""),
        ("--class 1 --condition image=other.safetensors", 1, "no tensor image, but mask"),
        ("--class 1 --condition image=text.txt", 1, "a picture, a .npy or a .safetensors"),
        ("--class 1 --condition image=away.png", 1, "away.png"),
        ("--class 1 --condition class_labels=low.png", 1, "classes are given by --class"),
        ("--condition image=low.png", 1, "give --class"),
        ("--class 1 --condition image=low.png --guidance 2", 2, "--negative-class"),
        ("--class 1 --condition image=low.png --negative-class 2", 2, "--guidance, which is missing"),
        ("--class 1 --condition image=low.png --guidance 2 --negative-class 9", 1, "0 to 3"),
        ("--class 1 --condition image=low.png --guidance 2 --negative mask=low.png", 1, "expected image"),
        ("--class 1 --condition image=low.png --guidance 2 --negative-class 3 --guidance-interval 2,1", 2, "LOW,HIGH"),
    ] {
        refused(dir, &words(&format!("sample model {text} --output z.npy")), code, said);
    }
    refused(dir, &words("sample --condition image=low.png --output z.npy"), 1, "takes no condition");
    assert!(!dir.join("z.npy").exists());
}
