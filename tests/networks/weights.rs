//! Reading and writing of weights: what a well-formed file gives.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, TensorView};
use undiffuse::tensor::DType;
use undiffuse::weights::{
    DiffusersNames, SafeTensorsFile, SafeTensorsView, ShardedFiles, TensorToWrite, WeightSource, diffusers, packed,
    write_safetensors,
};

use crate::scratch::Scratch;

/// A file as the format's own crate writes it.
fn foreign(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors.iter().map(|(n, t, s, b)| (*n, TensorView::new(*t, s.to_vec(), b).unwrap()));
    safetensors::serialize(views, Some([("format".into(), "pt".into())].into_iter().collect())).unwrap()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read(source: &dyn WeightSource, name: &str, count: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; count];
    source.read_f32(name, &mut out).unwrap();
    out
}

fn ours(tensors: &[TensorToWrite<'_>], value: impl Fn(&str, usize) -> f32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut fill = |name: &str, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(i, o)| *o = value(name, i));
        Ok(())
    };
    write_safetensors(tensors, &BTreeMap::new(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    bytes
}

#[test]
fn every_element_type_reads_as_f32() {
    let f64s: Vec<u8> = [1.0f64, -0.1].iter().flat_map(|v| v.to_le_bytes()).collect();
    // Written out by hand: 1.5 and -2 in binary16, 1 and -2 in bfloat16.
    let bytes = foreign(&[
        ("double", Dtype::F64, &[2], &f64s),
        ("single", Dtype::F32, &[1, 2], &f32s(&[3.25, -1e-30])),
        ("half", Dtype::F16, &[2, 1], &[0x00, 0x3e, 0x00, 0xc0]),
        ("brain", Dtype::BF16, &[2], &[0x80, 0x3f, 0x00, 0xc0]),
        ("scalar", Dtype::F32, &[], &f32s(&[7.0])),
    ]);
    let scratch = Scratch::new("types");
    let file = SafeTensorsFile::open(scratch.write("a.safetensors", &bytes)).unwrap();
    let view = SafeTensorsView::parse(&bytes).unwrap();
    assert_eq!(view.metadata("format"), Some("pt"));
    for source in [&view as &dyn WeightSource, &file] {
        assert_eq!(source.names(), ["brain", "double", "half", "scalar", "single"]);
        assert_eq!(read(source, "double", 2), [1.0, -0.1]);
        assert_eq!(read(source, "single", 2), [3.25, -1e-30]);
        assert_eq!(read(source, "half", 2), [1.5, -2.0]);
        assert_eq!(read(source, "brain", 2), [1.0, -2.0]);
        assert_eq!(read(source, "scalar", 1), [7.0]);
        let info = source.info("single").unwrap();
        assert_eq!((info.dtype, info.shape.as_slice()), (DType::F32, &[1, 2][..]));
        assert!(source.info("other").is_none());
    }
}

#[test]
fn a_file_longer_than_one_piece_reads_whole() {
    let count = 100_003;
    let bytes =
        ours(&[TensorToWrite { name: "long", dtype: DType::F16, shape: &[count] }], |_, i| (i % 2001) as f32 - 1000.0);
    let scratch = Scratch::new("long");
    let file = SafeTensorsFile::open(scratch.write("a.safetensors", &bytes)).unwrap();
    let got = read(&file, "long", count);
    assert!(got.iter().enumerate().all(|(i, &v)| v == (i % 2001) as f32 - 1000.0));
}

#[test]
fn what_we_write_the_formats_own_crate_reads() {
    let tensors = [
        TensorToWrite { name: "b", dtype: DType::BF16, shape: &[3] },
        TensorToWrite { name: "z", dtype: DType::F32, shape: &[2, 2] },
        TensorToWrite { name: "a", dtype: DType::F16, shape: &[1] },
        TensorToWrite { name: "d", dtype: DType::F64, shape: &[] },
    ];
    let bytes = ours(&tensors, |name, i| (i + name.len()) as f32);
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("z").unwrap().data(), f32s(&[1.0, 2.0, 3.0, 4.0]));
    assert_eq!(theirs.tensor("d").unwrap().data(), 1.0f64.to_le_bytes());
    let view = SafeTensorsView::parse(&bytes).unwrap();
    assert_eq!(read(&view, "b", 3), [1.0, 2.0, 3.0]);

    let mut reversed = tensors.clone();
    reversed.reverse();
    assert_eq!(bytes, ours(&reversed, |name, i| (i + name.len()) as f32), "the order of the arguments shows");
}

#[test]
fn integers_of_8_bits_are_read_with_the_factors_of_their_rows() {
    let shape = [3, 5];
    let value =
        |_: &str, i: usize| [[-1.0, 0.5, 0.25, 0.0, 3.0], [0.0; 5], [1e-3, -7e-4, 2e-4, 1e-7, 9e-4]][i / 5][i % 5];
    let bytes = ours(&[TensorToWrite { name: "w", dtype: DType::I8, shape: &shape }], value);
    let scratch = Scratch::new("int8");
    let file = SafeTensorsFile::open(scratch.write("a.safetensors", &bytes)).unwrap();
    let view = SafeTensorsView::parse(&bytes).unwrap();
    for source in [&view as &dyn WeightSource, &file] {
        // The factors belong to their tensor and are none by themselves.
        assert_eq!(source.names(), ["w"]);
        assert_eq!(source.info("w").unwrap().dtype, DType::I8);
        let got = read(source, "w", 15);
        for (i, (row, largest)) in got.chunks(5).zip([3.0, 0.0, 1e-3f32]).enumerate() {
            for (j, v) in row.iter().enumerate() {
                assert!((v - value("w", 5 * i + j)).abs() <= largest / 254.0 * 1.0001, "row {i}: {v}");
            }
        }
        // What was written is written again with the same bytes.
        assert_eq!(ours(&[TensorToWrite { name: "w", dtype: DType::I8, shape: &shape }], |_, i| got[i]), bytes);
    }
    // Longer than a piece, in rows that end within pieces.
    let shape = [7, 30_011];
    let large = |_: &str, i: usize| ((i * 7919) % 2001) as f32 - 1000.0;
    let bytes = ours(&[TensorToWrite { name: "w", dtype: DType::I8, shape: &shape }], large);
    let file = SafeTensorsFile::open(scratch.write("b.safetensors", &bytes)).unwrap();
    let view = SafeTensorsView::parse(&bytes).unwrap();
    assert_eq!(read(&view, "w", 7 * 30_011), read(&file, "w", 7 * 30_011));
    // Integers alone say nothing.
    let alone = foreign(&[("w", Dtype::I8, &[2, 2], &[1, 2, 3, 4]), ("w/factors", Dtype::F32, &[1], &f32s(&[1.0]))]);
    let e = SafeTensorsView::parse(&alone).unwrap_err().to_string();
    assert!(e.contains("w/factors has not their factors, expected a tensor F32 [2]"), "{e}");
    let mut fill = |_: &str, out: &mut [f32]| {
        out.fill(f32::INFINITY);
        Ok(())
    };
    let tensors = [TensorToWrite { name: "w", dtype: DType::I8, shape: &[2, 2] }];
    assert!(write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |_| Ok(())).is_err());
}

/// Written out by hand: two channels of 2 x 1 x 3 inputs, in the order (ky, kx, input channel) two a byte.
#[test]
fn integers_of_4_bits_are_read_with_the_scales_of_their_groups() {
    let bytes = foreign(&[
        ("w", Dtype::U8, &[2, 1, 3, 1], &[0x21, 0xf7, 0x08, 0x10, 0x32, 0x54]),
        ("w/scales", Dtype::BF16, &[2, 1], &[0x00, 0x3f, 0x80, 0xbf]),
    ]);
    let view = SafeTensorsView::parse(&bytes).unwrap();
    assert_eq!((view.names(), view.info("w").unwrap().shape), (vec!["w"], vec![2, 2, 1, 3]));
    assert_eq!(view.info("w").unwrap().dtype, DType::I4);
    // Of 0.5: taps of the first channel, of the second; then of -1.
    assert_eq!(read(&view, "w", 12), [0.5, 3.5, -4.0, 1.0, -0.5, 0.0, -0.0, -2.0, -4.0, -1.0, -3.0, -5.0]);

    // Groups that end with a channel and within one, files and views, and again what was written.
    let scratch = Scratch::new("int4");
    for (at, shape) in [&[3, 64][..], &[2, 70], &[4, 6, 3, 3], &[2, 4, 5]].into_iter().enumerate() {
        let count = shape.iter().product();
        let value = |_: &str, i: usize| (((i * 7919) % 2001) as f32 - 1000.0) * [1.0, 1e-6][i * shape[0] / count % 2];
        let write = [TensorToWrite { name: "w", dtype: DType::I4, shape }];
        let bytes = ours(&write, value);
        let file = SafeTensorsFile::open(scratch.write(&format!("{at}.safetensors"), &bytes)).unwrap();
        let view = SafeTensorsView::parse(&bytes).unwrap();
        let got = read(&view, "w", count);
        assert_eq!(read(&file, "w", count), got);
        assert_eq!(view.info("w").unwrap().shape, shape);
        for (r, row) in got.chunks(count / shape[0]).enumerate() {
            let first = r * row.len();
            let largest = (0..row.len()).map(|i| value("", first + i).abs()).fold(0.0, f32::max);
            let worst = row.iter().enumerate().map(|(i, v)| (v - value("", first + i)).abs()).fold(0.0, f32::max);
            assert!(worst > 0.0 && worst < largest / 7.0, "row {r} of {shape:?}: {worst} of {largest}");
        }
        assert_eq!(ours(&write, |_, i| got[i]), bytes);
    }

    let refused = |scales: &[(Dtype, &[usize], &[u8])], shape: &[usize]| {
        let bytes = vec![0x11; shape.iter().product()];
        let mut tensors = vec![("w", Dtype::U8, shape, &bytes[..])];
        tensors.extend(scales.iter().map(|(t, s, b)| ("w/scales", *t, *s, *b)));
        SafeTensorsView::parse(&foreign(&tensors)).unwrap_err().to_string()
    };
    let e = refused(&[(Dtype::BF16, &[1, 1], &[0; 2])], &[2, 16]);
    assert!(e.contains("w/scales has not their scales, expected a tensor BF16 [2, 1]"), "{e}");
    let e = refused(&[(Dtype::F16, &[2, 1], &[0; 4])], &[2, 16]);
    assert!(e.contains("expected a tensor BF16 [2, 1]"), "{e}");
    let e = refused(&[(Dtype::BF16, &[2, 1], &[0; 4])], &[2]);
    assert!(e.contains("tensor w of 4-bit integers has the shape [2]"), "{e}");
    // Bytes alone are no weights.
    assert!(refused(&[], &[2, 16]).contains("tensor w has elements of type U8"));
    let nan = foreign(&[("w", Dtype::U8, &[1, 1], &[0x11]), ("w/scales", Dtype::BF16, &[1, 1], &[0xc0, 0x7f])]);
    let e = SafeTensorsView::parse(&nan).unwrap().read_f32("w", &mut [0.0; 2]).unwrap_err().to_string();
    assert!(e.contains("tensor w holds NaN in row 0"), "{e}");
    // What cannot be written.
    for (shape, value, what) in [
        (&[2, 2][..], f32::NAN, "tensor w holds NaN, which int4 cannot hold"),
        (&[2, 3], 1.0, "tensor w of shape [2, 3] cannot be int4, expected [out, in, ...] of an even in"),
        (&[2], 1.0, "cannot be int4"),
    ] {
        let mut fill = |_: &str, out: &mut [f32]| {
            out.fill(value);
            Ok(())
        };
        let tensors = [TensorToWrite { name: "w", dtype: DType::I4, shape }];
        let e = write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    }
}

#[test]
fn shards_are_joined_by_their_index() {
    let scratch = Scratch::new("shards");
    let one = |name: &str, v: f32| ours(&[TensorToWrite { name, dtype: DType::F32, shape: &[1] }], |_, _| v);
    scratch.write("m-00001-of-00002.safetensors", one("first", 1.0));
    scratch.write("m-00002-of-00002.safetensors", one("second", 2.0));
    let index = scratch.write(
        "m.safetensors.index.json",
        r#"{"metadata":{"total_size":8},"weight_map":{"second":"m-00002-of-00002.safetensors","first":"m-00001-of-00002.safetensors"}}"#,
    );
    let shards = ShardedFiles::open(index).unwrap();
    assert_eq!(shards.names(), ["first", "second"]);
    assert_eq!(read(&shards, "first", 1), [1.0]);
    assert_eq!(read(&shards, "second", 1), [2.0]);
}

#[test]
fn legacy_attention_names_are_shown_as_todays() {
    let tensor = |name| TensorToWrite { name, dtype: DType::F32, shape: &[1] };
    let bytes = ours(
        &[
            tensor("mid_block.attentions.0.query.weight"),
            tensor("mid_block.attentions.0.key.bias"),
            tensor("mid_block.attentions.0.value.weight"),
            tensor("mid_block.attentions.0.proj_attn.bias"),
            tensor("mid_block.attentions.0.group_norm.weight"),
            tensor("elsewhere.query.weight"),
        ],
        |name, _| name.len() as f32,
    );
    let names = DiffusersNames::new(SafeTensorsView::parse(&bytes).unwrap()).unwrap();
    assert_eq!(
        names.names(),
        [
            "elsewhere.query.weight",
            "mid_block.attentions.0.group_norm.weight",
            "mid_block.attentions.0.to_k.bias",
            "mid_block.attentions.0.to_out.0.bias",
            "mid_block.attentions.0.to_q.weight",
            "mid_block.attentions.0.to_v.weight",
        ]
    );
    let stored = "mid_block.attentions.0.proj_attn.bias".len() as f32;
    assert_eq!(read(&names, "mid_block.attentions.0.to_out.0.bias", 1), [stored]);
}

#[test]
fn a_packed_file_keeps_configs_and_vectors_exactly() {
    let source = ours(
        &[
            TensorToWrite { name: "w", dtype: DType::F32, shape: &[2, 2] },
            TensorToWrite { name: "bias", dtype: DType::F32, shape: &[2] },
        ],
        |_, i| 0.1 + i as f32,
    );
    let source = SafeTensorsView::parse(&source).unwrap();
    let configs = packed::PackedConfigs {
        activations: None,
        model: r#"{"a":"\"ü"}"#.into(),
        scheduler: Some("{}".into()),
        preconditioning: None,
        decoder: None,
    };
    let pack = |dtype| {
        let mut bytes = Vec::new();
        packed::write(&configs, &source, dtype, &mut |b| {
            bytes.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
        bytes
    };
    for (dtype, error) in [(DType::F32, 0.0), (DType::F16, 1e-3), (DType::BF16, 1e-2)] {
        let bytes = pack(dtype);
        assert_eq!(bytes, pack(dtype));
        let (view, read_configs) = packed::open(&bytes).unwrap();
        assert_eq!(read_configs, configs);
        assert_eq!(read(&view, "bias", 2), [0.1, 1.1], "vectors stay f32");
        assert_eq!(view.info("w").unwrap().dtype, dtype);
        for (i, v) in read(&view, "w", 4).into_iter().enumerate() {
            let exact = 0.1 + i as f32;
            assert!((v - exact).abs() <= error * exact, "{v} is not {exact}");
        }
    }
}

#[test]
fn directories_nested_flat_and_with_one_variant_are_found() {
    let weights = ours(&[TensorToWrite { name: "w", dtype: DType::F32, shape: &[1] }], |_, _| 4.0);
    for (config, scheduler, file) in [
        ("unet/config.json", "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.safetensors"),
        ("config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors"),
        ("unet/config.json", "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.fp16.safetensors"),
        ("config.json", "scheduler_config.json", "model.safetensors"),
    ] {
        let scratch = Scratch::new("dir");
        scratch.write(config, "{\"m\":1}");
        scratch.write(scheduler, "{\"s\":1}");
        scratch.write(file, &weights);
        scratch.write(
            "model_index.json",
            r#"{"_class_name":"DDPMPipeline","scheduler":["diffusers","DDPMScheduler"],"unet":["diffusers","UNet2DModel"],"safety_checker":[null,null]}"#,
        );
        // A pickle beside safetensors weights does not matter.
        scratch.write("diffusion_pytorch_model.bin", "PK");
        let files = diffusers::open(scratch.path()).unwrap();
        assert_eq!((files.model.as_str(), files.scheduler.as_deref()), ("{\"m\":1}", Some("{\"s\":1}")));
        assert_eq!(read(&files.weights, "w", 1), [4.0]);
    }
}
