use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::Cancel;
use crate::backend::cpu::{Cpu, CpuOptions, Path};
use crate::denoiser::{Call, Denoiser, inputs_of};
use crate::error::ErrorKind;
use crate::graph::{GraphBuilder, Role};
use crate::noise::Seeded;
use crate::pipeline::{Pipeline, PipelineOptions, Source};
use crate::sampler::{SamplerKind, SamplerOptions, Steps};
use crate::schedule::Level;
use crate::tensor::Dims;
use crate::weights::read_param;

const TINY: &[u8] = include_bytes!("../../tests/no_std/tiny.safetensors");

type AnySampler = Box<dyn Sampler + Send + Sync>;

fn portable() -> Cpu {
    Cpu::with_options(CpuOptions { path: Some(Path::Portable), threads: Some(1), ..Default::default() }).unwrap()
}

fn sampler(pipeline: &Pipeline) -> AnySampler {
    let options =
        SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(4), eta: 1.0, ..Default::default() };
    pipeline.sampler(&options).unwrap()
}

/// The tiny network for batches up to 3, as a program has it but for where it lies.
fn tiny() -> (Pipeline, &'static Model<AnySampler>) {
    let pipeline = Pipeline::from_bytes(TINY, &portable(), &PipelineOptions::default()).unwrap();
    let source = Source::from_bytes(TINY).unwrap();
    let read = |name: &str, dims: &Dims, out: &mut [f32]| read_param(source.weights(), name, dims, out);
    let network = portable().compile_network(&source.graph(None).unwrap(), &read).unwrap();
    let ports: Vec<Port> = inputs_of(&network)
        .unwrap()
        .iter()
        .map(|i| Port { name: i.name.clone().leak(), role: i.role, dims: i.dims })
        .collect();
    let chain = Chain::builder(pipeline.denoiser(3, &[]).unwrap(), sampler(&pipeline), ()).batch(3).workspace_len();
    let model = Model::new(network.into_fixed(3).unwrap(), ports.leak(), sampler(&pipeline), chain.unwrap());
    (pipeline, Box::leak(Box::new(model)))
}

#[test]
fn samples_have_the_bits_of_a_pipeline_for_every_batch() {
    let (pipeline, model) = tiny();
    let mut workspace = vec![f32::NAN; model.workspace_len()];
    for batch in 1..=3 {
        let options = ChainOptions { batch, first_sample: 7 };
        let mut want =
            Chain::new(pipeline.denoiser(3, &[]).unwrap(), sampler(&pipeline), Seeded::new(5), &options).unwrap();
        want.run().unwrap();
        let mut got = model.chain(Seeded::new(5), &options, &[], &mut workspace).unwrap();
        got.run().unwrap();
        assert_eq!(got.x(), want.x());
        assert!(got.x().iter().any(|v| *v != 0.0));
    }
    let too_many = ChainOptions { batch: 4, first_sample: 0 };
    let e = model.chain(Seeded::new(5), &too_many, &[], &mut workspace).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_workspace_one_value_too_short_is_refused_with_both_numbers() {
    let (_, model) = tiny();
    let need = model.workspace_len();
    let mut workspace = vec![0.0; need - 1];
    let e = model.chain(Seeded::new(5), &ChainOptions::default(), &[], &mut workspace).err().unwrap();
    assert_eq!((e.kind(), e.lengths()), (ErrorKind::OutOfMemory, Some([need - 1, need])));
    assert!(e.message().contains(&alloc::format!("{}", need - 1)) && e.message().contains(&alloc::format!("{need}")));
    let need = model.denoiser_len();
    let e = model.denoiser(&[], &mut workspace[..need - 1]).err().unwrap();
    assert_eq!(e.lengths(), Some([need - 1, need]));
}

/// y = x + c + t.
fn sum() -> &'static FixedNetwork {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    let t = g.input("t", &[1]).unwrap();
    let c = g.input("c", &[2]).unwrap();
    let y = g.add(x, c).unwrap();
    let y = g.add(y, t).unwrap();
    g.output("y", y).unwrap();
    let none = |_: &str, _: &Dims, _: &mut [f32]| Ok(());
    let network = portable().compile_network(&g.finish().unwrap(), &none).unwrap();
    Box::leak(Box::new(network.into_fixed(3).unwrap()))
}

fn ports() -> &'static [Port] {
    let port = |name, role, n| Port { name, role, dims: Dims::new(&[n]).unwrap() };
    vec![port("x", Role::Sample, 2), port("t", Role::Timestep, 1), port("c", Role::Vector, 2)].leak()
}

#[test]
fn each_sample_gets_its_row_of_a_condition() {
    let mut memory = vec![0.0; FixedDenoiser::memory_len(sum(), ports())];
    let rows = [10.0, 20.0, 30.0, 40.0];
    let conditions = [("c", &rows[..])];
    let mut denoiser = FixedDenoiser::new(sum(), ports(), &conditions, &mut memory).unwrap();
    assert!(denoiser.looks_at_numbers());
    let cancel = Cancel::new();
    let call = Call { level: Level::variance_preserving(0.5, 0.75), first_sample: 1, cancel: &cancel };
    let mut out = [0.0; 6];
    denoiser.predict(&call, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut out).unwrap();
    assert_eq!(out, [31.5, 42.5, 13.5, 24.5, 35.5, 46.5]);
    let e = denoiser.predict(&call, &[f32::NAN; 2], &mut out[..2]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NonFinite);
    assert_eq!(denoiser.predict(&call, &[0.0; 8], &mut [0.0; 8]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn conditions_that_do_not_suit_are_refused() {
    let mut memory = vec![0.0; FixedDenoiser::memory_len(sum(), ports())];
    let mut kind = |conditions: Given<'static>| {
        FixedDenoiser::new(sum(), ports(), conditions, &mut memory).map(|_| ()).map_err(|e| e.kind())
    };
    assert_eq!(kind(&[("c", &[1.0, 2.0])]), Ok(()));
    assert_eq!(kind(&[]), Err(ErrorKind::InvalidArgument));
    assert_eq!(kind(&[("c", &[1.0, 2.0]), ("d", &[1.0])]), Err(ErrorKind::InvalidArgument));
    assert_eq!(kind(&[("c", &[1.0, 2.0, 3.0])]), Err(ErrorKind::Shape));
    assert_eq!(kind(&[("c", &[])]), Err(ErrorKind::Shape));
    assert_eq!(kind(&[("c", &[1.0, f32::INFINITY])]), Err(ErrorKind::NonFinite));
}

#[test]
fn the_network_refuses_what_does_not_fit() {
    let network = sum();
    let mut workspace = vec![0.0; network.workspace_len()];
    let mut y = [0.0; 2];
    let kind = |r: Result<()>| r.map_err(|e| e.kind());
    let (x, t, cancel) = ([1.0; 2], [0.5], Cancel::new());
    let inputs: [&[f32]; 3] = [&x, &t, &x];
    assert_eq!(kind(network.run(1, &inputs, &mut [&mut y], &mut workspace, &cancel)), Ok(()));
    assert_eq!(y, [2.5; 2]);
    let short = workspace.len() - 1;
    assert_eq!(
        kind(network.run(1, &inputs, &mut [&mut y], &mut workspace[..short], &cancel)),
        Err(ErrorKind::OutOfMemory)
    );
    for batch in [0, 4] {
        let e = network.run(batch, &inputs, &mut [&mut y], &mut workspace, &cancel);
        assert_eq!(kind(e), Err(ErrorKind::InvalidArgument));
    }
    assert_eq!(kind(network.run(2, &inputs, &mut [&mut y], &mut workspace, &cancel)), Err(ErrorKind::Shape));
    assert_eq!(kind(network.run(1, &inputs[..2], &mut [&mut y], &mut workspace, &cancel)), Err(ErrorKind::Shape));
    cancel.cancel();
    assert_eq!(kind(network.run(1, &inputs, &mut [&mut y], &mut workspace, &cancel)), Err(ErrorKind::Cancelled));
}

#[cfg(feature = "embed")]
mod written {
    use super::*;
    use crate::backend::cpu::WeightType;

    /// In a folder of its own.
    fn made(name: &str, file: &str, options: &EmbedOptions) -> (Embedded, alloc::string::String, Vec<u8>) {
        let dir = std::env::temp_dir().join(alloc::format!("undiffuse-embed-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let report = generate(root.join(file), options, dir.join("model.rs")).unwrap();
        let text = std::fs::read_to_string(dir.join("model.rs")).unwrap();
        let bytes = std::fs::read(dir.join("model.bin")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        (report, text, bytes)
    }

    #[test]
    fn the_digits_weights_are_as_narrow_as_they_were_asked_to_be() {
        for (weights, most) in [
            (WeightType::F32, 4_600_000),
            (WeightType::F16, 2_400_000),
            (WeightType::Int8, 1_300_000),
            (WeightType::Int4, 700_000),
        ] {
            let options = EmbedOptions { weights, ..Default::default() };
            let (report, text, bytes) = made(weights.name(), "pretrained/digits.safetensors", &options);
            assert_eq!(report.weight_bytes, bytes.len());
            assert!(bytes.len() < most, "{weights}: {} bytes", bytes.len());
            assert_eq!(report.steps, 20);
            assert!(text.contains("pub static MODEL: Model<Plan>") && text.contains("include_bytes!(\"model.bin\")"));
        }
    }

    #[test]
    fn the_chains_of_2015_are_written_too() {
        let (report, text, _) = made("roll", "pretrained/swiss_roll.safetensors", &EmbedOptions::default());
        assert!(text.contains("Model<Ancestral2015>") && text.contains("RadialBasis {"));
        assert_eq!(report.steps, 40);
        let (_, text, _) = made("spikes", "tests/no_std/spikes.safetensors", &EmbedOptions::default());
        assert!(text.contains("Model<Bits2015>"));
    }

    #[test]
    fn what_cannot_be_a_part_of_a_program_is_refused_by_name() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pretrained/digits.safetensors");
        let refused = |options: EmbedOptions| generate(&root, &options, "never.rs").unwrap_err();
        for name in ["", "1", "a b", "x;"] {
            let e = refused(EmbedOptions { name: name.into(), ..Default::default() });
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        }
        let e = refused(EmbedOptions { batch: 0, ..Default::default() });
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        let pipeline =
            Pipeline::from_bytes(TINY, &portable(), &PipelineOptions { gradient: true.into(), ..Default::default() });
        let gradient = alloc::sync::Arc::clone(pipeline.unwrap().networks().gradient.as_ref().unwrap());
        let e = gradient.emit_fixed(1, &mut crate::emit::Emitter::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("cannot be a part of a program"), "{e}");
    }
}
