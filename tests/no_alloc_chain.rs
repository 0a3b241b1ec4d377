//! After a chain is made, sampling allocates nothing: shown by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use undiffuse::Cancel;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::codec::{Codec, Decoder, Encoder};
use undiffuse::denoiser::{Component, Conditions, Covariance, Denoiser, GaussianMixture, Guidance};
use undiffuse::evaluate::{BoundOptions, Edges, Times, bound_with};
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::posterior::operator::{BlockAverage, Clip, FourierMagnitude, Mask};
use undiffuse::posterior::{
    At, Classifier, ClassifierRule, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps, Evidence, Fps, FpsOptions,
    KnownPixels, Mcg, Measurement, Misfit, Pigdm, PigdmRule, RedDiff, Sitcom, SitcomOptions, Tmpd,
};
use undiffuse::sampler::{PredictionType, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::{DType, Dims};
use undiffuse::values::Scale;
use undiffuse::weights::SafeTensorsView;

#[path = "common/every_sampler.rs"]
mod every_sampler;
#[path = "common/pcg.rs"]
mod pcg;
#[path = "common/seeded.rs"]
mod seeded;
#[path = "common/seeded_file.rs"]
mod seeded_file;

std::thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread, so that the test runner's own do not disturb.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count is a thread local without a destructor, which
// may be touched at any time.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

#[test]
fn a_chain_allocates_only_when_it_is_made() {
    assert!(allocations(|| drop(Vec::<u8>::with_capacity(8))) > 0, "the allocator counts");
    let n = 12;
    let component = |m: f64, covariance| Component { weight: 1.0, mean: vec![m; n], covariance };
    let full = (0..n * n).map(|i| if i / n == i % n { 0.2 } else { 0.1 }).collect();
    let components = [component(-0.5, Covariance::Diagonal(vec![0.1; n])), component(0.5, Covariance::Full(full))];
    let thresholded = r#"{"_class_name": "DDPMScheduler", "thresholding": true, "sample_max_value": 2.0}"#;
    let configs = [
        SchedulerConfig::new(SamplerKind::Ddpm),
        SchedulerConfig::new(SamplerKind::Ddim),
        SchedulerConfig::from_json(thresholded).unwrap(),
    ];
    for config in configs {
        let options = SamplerOptions { steps: Steps::Count(20), eta: 0.5, ..Default::default() };
        let sampler = config.sampler(&options).unwrap();
        let prior =
            || GaussianMixture::new(Dims::new(&[3, 2, 2]).unwrap(), &components, PredictionType::Epsilon).unwrap();
        let options = ChainOptions { batch: 4, first_sample: 10 };
        let mut chain = Chain::new(prior(), &sampler, Seeded::new(1), &options).unwrap();
        let cancel = Cancel::new();
        let mut saved = Vec::new();
        let count = allocations(|| {
            chain.step().unwrap();
            chain.run_with(&cancel, |p| if p.step == 9 { Flow::Stop } else { Flow::Continue }).unwrap();
        });
        assert_eq!(count, 0, "{} to the middle", sampler.name());
        saved.resize(chain.saved_len(), 0);
        let count = allocations(|| {
            chain.save_into(&mut saved).unwrap();
            chain.run().unwrap();
            chain.restart(14, 3).unwrap();
            chain.restore(&saved).unwrap();
            chain.run().unwrap();
        });
        assert_eq!(count, 0, "{} to the end, again and once more", sampler.name());

        let parts = Chain::builder(prior(), &sampler, Seeded::new(1)).batch(4).first_sample(options.first_sample);
        let mut workspace = vec![0.0; parts.workspace_len().unwrap()];
        let count = allocations(|| {
            let mut chain = parts.workspace(&mut workspace).build().unwrap();
            chain.run().unwrap();
            std::mem::forget(chain);
        });
        assert_eq!(count, 0, "{} in the caller's memory, made and run", sampler.name());
    }
}

/// Of every sampler, with history and within its steps: run, saved, restarted and taken up again.
#[test]
fn no_sampler_allocates_in_a_run() {
    let dims = Dims::new(&[1, 2, 3]).unwrap();
    for case in every_sampler::every(12) {
        let options = ChainOptions { batch: 3, first_sample: 10 };
        let denoiser = every_sampler::exact(&*case.sampler, dims, &every_sampler::two_parts(6), 3);
        let mut chain = Chain::new(denoiser, &*case.sampler, Seeded::new(1), &options).unwrap();
        let mut saved = vec![0; chain.saved_len()];
        let count = allocations(|| {
            (0..5).for_each(|_| assert!(chain.step().is_ok()));
            chain.save_into(&mut saved).unwrap();
            chain.run().unwrap();
            chain.restart(14, 2).unwrap();
            chain.run().unwrap();
            chain.restore(&saved).unwrap();
            chain.run().unwrap();
        });
        assert_eq!(count, 0, "{}", case.name);
    }
}

#[test]
fn evidence_allocates_only_when_it_is_made_and_keeps_samples_apart() {
    let dims = Dims::new(&[1, 2, 4]).unwrap();
    let n = dims.elements();
    let component =
        |m: f64| Component { weight: 1.0, mean: vec![m; n], covariance: Covariance::Diagonal(vec![0.1; n]) };
    let parts = [component(-0.5), component(0.4)];
    let prior = || GaussianMixture::new(dims, &parts, PredictionType::Epsilon).unwrap();
    let mask = || Mask::new(dims, &(0..n).map(|i| i % 3 == 0).collect::<Vec<_>>()).unwrap();
    let pool = || BlockAverage::new(dims, 2).unwrap();
    let (noisy, exact) = (|| Measurement::new(pool(), &[0.3, -0.2], 0.1), || Measurement::exact(pool(), &[0.3, -0.2]));
    let classifier = || {
        Classifier::new("c", 1.0, ClassifierRule::Score, |_: &At, x: &[f32], out: &mut [f32]| {
            out.iter_mut().zip(x).for_each(|(g, x)| *g = 0.5 - x);
            Ok(())
        })
    };
    let methods: [&dyn Fn() -> Box<dyn Evidence>; 10] = [
        &|| Box::new(Ddnm::new(exact().unwrap()).unwrap()),
        &|| Box::new(Ddrm::new(noisy().unwrap(), 1.0).unwrap()),
        &|| Box::new(DiffPir::new(noisy().unwrap(), 1.0).unwrap()),
        &|| Box::new(KnownPixels::new(Measurement::exact(mask(), &[0.1, 0.2, 0.3]).unwrap()).unwrap()),
        &|| Box::new(Dps::new(noisy().unwrap(), 0.3, Misfit::Gaussian).unwrap()),
        &|| Box::new(Mcg::new(exact().unwrap(), 0.3).unwrap()),
        &|| Box::new(Pigdm::new(noisy().unwrap(), PigdmRule::Published).unwrap()),
        &|| Box::new(Tmpd::new(noisy().unwrap()).unwrap()),
        &|| Box::new(classifier().unwrap()),
        &|| Box::new(Fps::new(noisy().unwrap(), &FpsOptions { ensemble: 1 }).unwrap()),
    ];
    let options = SamplerOptions { steps: Steps::Count(10), eta: 0.5, ..Default::default() };
    let sampler = SchedulerConfig::new(SamplerKind::Ddim).sampler(&options).unwrap();
    keeps_apart(&methods, &*sampler, &prior);
    // Those that draw each level anew.
    let clip = || Measurement::new(Clip::new(dims, 2.0).unwrap(), &[0.3; 8], 0.1);
    let phase = || Measurement::new(FourierMagnitude::new(dims, 2.0).unwrap(), &[0.3; 32], 0.1);
    let few = DapsOptions { langevin_steps: 5, ..DapsOptions::default() };
    let anew: [&dyn Fn() -> Box<dyn Evidence>; 3] = [
        &|| Box::new(Daps::new(clip().unwrap(), &few).unwrap()),
        &|| Box::new(Daps::new(phase().unwrap(), &few).unwrap()),
        &|| Box::new(RedDiff::new(phase().unwrap(), 0.1, 0.25).unwrap()),
    ];
    let sampler = SchedulerConfig::new(SamplerKind::Ddpm).decoupled_annealing(&options, 3).unwrap();
    keeps_apart(&anew, &sampler, &prior);
    let o = SitcomOptions { gradient_steps: 3, ..SitcomOptions::default() };
    let sitcom: [&dyn Fn() -> Box<dyn Evidence>; 2] =
        [&|| Box::new(Sitcom::new(clip().unwrap(), &o).unwrap()), &|| {
            Box::new(Sitcom::new(phase().unwrap(), &o).unwrap())
        }];
    let sampler = SchedulerConfig::new(SamplerKind::Ddpm).input_optimization(&options, 3).unwrap();
    keeps_apart(&sitcom, &sampler, &prior);
}

/// Runs of a batch of three and of its last sample alone, the first without an allocation.
fn keeps_apart(methods: &[&dyn Fn() -> Box<dyn Evidence>], sampler: &dyn Sampler, prior: &dyn Fn() -> GaussianMixture) {
    for method in methods {
        let make = |batch: usize, first_sample: u64| {
            let options = ChainOptions { batch, first_sample };
            Chain::with_evidence(prior(), sampler, Seeded::new(1), method(), &options).unwrap()
        };
        let mut all = make(3, 7);
        let n = all.x().len() / 3;
        let name = all.evidence().name().to_string();
        assert_eq!(allocations(|| all.run().unwrap()), 0, "{name}");
        let mut last = make(1, 9);
        last.run().unwrap();
        assert_eq!(&all.x()[2 * n..], last.x(), "{name}: alone and in a batch");
    }
}

#[test]
fn a_chain_with_a_network_allocates_only_when_it_is_made() {
    let model = r#"{"block_out_channels":[8,16],"down_block_types":["DownBlock2D","AttnDownBlock2D"],"sample_size":8,
        "up_block_types":["AttnUpBlock2D","UpBlock2D"],"norm_num_groups":4,"layers_per_block":1,"num_class_embeds":4}"#;
    let config = UNet2DConfig::from_json(model).unwrap();
    let graph = unet2d::build(&config, config.size(None).unwrap()).unwrap();
    let bytes = seeded_file::seeded_file(&graph, DType::F32, |_| true);
    let weights = Box::new(SafeTensorsView::parse(&bytes).unwrap());
    let scheduler = Some(r#"{"_class_name":"DDIMScheduler"}"#.to_string());
    let source = Source::new(model.to_string(), scheduler, weights).unwrap();
    // One thread, because only this one's allocations are counted; tests/no_alloc_network.rs counts all threads'.
    let cpu = Cpu::with_options(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
    let pipeline = source.compile(&cpu, &PipelineOptions::default()).unwrap();
    let options = SamplerOptions { steps: Steps::Count(5), eta: 0.5, ..Default::default() };
    let (denoiser, sampler) = (pipeline.denoiser(3, &[1.0, 2.0]).unwrap(), pipeline.sampler(&options).unwrap());
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(1), &ChainOptions { batch: 3, first_sample: 0 }).unwrap();
    let count = allocations(|| {
        chain.run().unwrap();
        chain.restart(3, 2).unwrap();
        chain.run().unwrap();
    });
    assert_eq!(count, 0);
}

#[test]
fn a_guided_chain_with_conditions_allocates_only_when_it_is_made() {
    let model = r#"{"block_out_channels":[8,16],"down_block_types":["DownBlock2D","AttnDownBlock2D"],"sample_size":8,
        "up_block_types":["AttnUpBlock2D","UpBlock2D"],"norm_num_groups":4,"layers_per_block":1,"num_class_embeds":4,
        "in_channels":5,"out_channels":3}"#;
    let config = UNet2DConfig::from_json(model).unwrap();
    let graph = unet2d::build(&config, config.size(None).unwrap()).unwrap();
    let bytes = seeded_file::seeded_file(&graph, DType::F32, |_| true);
    let weights = Box::new(SafeTensorsView::parse(&bytes).unwrap());
    let scheduler = Some(r#"{"_class_name":"DDIMScheduler"}"#.to_string());
    let source = Source::new(model.to_string(), scheduler, weights).unwrap();
    let cpu = Cpu::with_options(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
    let pipeline = source.compile(&cpu, &PipelineOptions::default()).unwrap();
    let image = [0.25; 2 * 2 * 64];
    let conditions = Conditions::new().with("image", &image).with_classes(&[1, 2]);
    let guidance = Guidance { rescale: 0.7, ..Guidance::new(3.0, Conditions::new().with_classes(&[3])) };
    let sampler = pipeline.sampler(&SamplerOptions { steps: Steps::Count(5), ..Default::default() }).unwrap();
    let denoiser = pipeline.guided(3, &conditions, &guidance).unwrap();
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(1), &ChainOptions { batch: 3, first_sample: 0 }).unwrap();
    let count = allocations(|| {
        chain.run().unwrap();
        chain.denoiser_mut().set_condition("image", &image[..128]).unwrap();
        chain.denoiser_mut().set_negative("class_labels", &[0.0]).unwrap();
        chain.restart(3, 2).unwrap();
        chain.run().unwrap();
    });
    assert_eq!(count, 0);
}

#[test]
fn an_evaluation_allocates_only_at_its_beginning() {
    let n = 12;
    let component = Component { weight: 1.0, mean: vec![0.1; n], covariance: Covariance::Diagonal(vec![0.5; n]) };
    let kind = PredictionType::Epsilon;
    let mut prior = GaussianMixture::new(Dims::new(&[n]).unwrap(), &[component], kind).unwrap();
    let sampler = SchedulerConfig::new(SamplerKind::Ddpm);
    let sampler = sampler.sampler(&SamplerOptions { steps: Steps::Count(20), ..Default::default() }).unwrap();
    let data = pcg::uniform(1, 0, 7 * n, 1.0);
    for times in [Times::All, Times::Sampled(4)] {
        // What stands between the first network call and the last.
        let (mut first, mut last) = (None, 0);
        let options = BoundOptions { times, draws: 2, batch: 3, edges: Edges::Network, ..Default::default() };
        let mut observe = |_| {
            last = COUNT.get();
            first.get_or_insert(last);
        };
        let noise = &mut Seeded::new(1);
        bound_with(&mut prior, &sampler, noise, &data, &options, &Cancel::new(), &mut observe).unwrap();
        assert_eq!(first, Some(last), "{times:?}");
    }
}

#[test]
fn decoding_and_encoding_in_one_piece_or_in_tiles_allocate_nothing() {
    let json = r#"{"_class_name":"AutoencoderKL","block_out_channels":[8,8],"norm_num_groups":4,"latent_channels":3,
        "down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D"]}"#;
    let config = AutoencoderConfig::from_json(json).unwrap();
    let params = config.parameters().unwrap();
    let seeded = seeded::Seeded::of_names(params.iter().map(|p| p.name.as_str()));
    let bytes = seeded_file::seeded_tensors(&seeded, &params, DType::F32);
    let weights = SafeTensorsView::parse(&bytes).unwrap();
    let cpu = Cpu::with_options(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
    for (within, whole) in [(1 << 30, true), (60_000, false)] {
        let decoder = Decoder::compile(&config, &weights, [3, 16, 20], within, &cpu).unwrap();
        assert_eq!(decoder.tiles() == 1, whole, "{} tiles", decoder.tiles());
        let encoder = Encoder::compile(&config, &weights, [3, 16, 20], within, &cpu).unwrap();
        assert_eq!(encoder.tiles() == 1, whole, "{} tiles", encoder.tiles());
        let dims = Dims::new(&[3, 16, 20]).unwrap();
        let mut codec = Codec::new(dims, Scale::default(), Some(decoder), Some(encoder)).unwrap();
        let x = [0.25; 2 * 3 * 16 * 20];
        let mut data = vec![0.0; 2 * codec.data_dims().elements()];
        assert_eq!(allocations(|| codec.decode(&x, &mut data, &Cancel::new()).unwrap()), 0, "within {within}");
        let mut encoded = [0.0; 2 * 3 * 16 * 20];
        let mut encode = || codec.encode(&data, Some(&x), &mut encoded, &Cancel::new()).unwrap();
        assert_eq!(allocations(&mut encode), 0, "within {within}");
    }
}
