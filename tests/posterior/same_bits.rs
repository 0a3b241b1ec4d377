//! Every sampler, whatever it keeps between its calls: a chain that was saved anywhere, inner stages included, and
//! taken up in another process ends in the same bits, and so does a sample in whatever batch or shard it is made.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::Denoiser;
use undiffuse::noise::Seeded;
use undiffuse::sampler::{Sampler, SamplerKind};
use undiffuse::tensor::Dims;

use crate::every_sampler::{Case, every, exact, two_parts};

const SAMPLES: usize = 16;

fn chain(case: &Case, batch: usize, first_sample: u64) -> Chain<'static, Box<dyn Denoiser>, &dyn Sampler, Seeded> {
    let dims = Dims::new(&[1, 2, 3]).unwrap();
    let denoiser = exact(&*case.sampler, dims, &two_parts(6), batch);
    Chain::new(denoiser, &*case.sampler as &dyn Sampler, Seeded::new(7), &ChainOptions { batch, first_sample }).unwrap()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn batches_shards_and_restored_chains_give_the_same_bits() {
    let cases = every(12);
    let (mut places, mut inner, mut kept) = (0, 0, 0);
    for case in &cases {
        let name = &case.name;
        let mut whole = chain(case, SAMPLES, 100);
        whole.run().unwrap();
        let want = bits(whole.x());
        // One by one, and in shards of unequal size, of which the last is a partial batch of a chain that ran before.
        let alone: Vec<u32> = (0..SAMPLES as u64)
            .flat_map(|i| {
                let mut one = chain(case, 1, 100 + i);
                one.run().unwrap();
                bits(one.x())
            })
            .collect();
        assert!(alone == want, "{name}: 16 times one sample is not one batch of 16");
        let mut sharded = Vec::new();
        let mut shard = chain(case, 7, 0);
        for (first, count) in [(100, 7), (107, 7), (114, 2)] {
            shard.restart(first, count).unwrap();
            shard.run().unwrap();
            sharded.extend(bits(shard.x()));
        }
        assert!(sharded == want, "{name}: shards of 7, 7 and 2 are not one batch of 16");
        // Saved at every place, and taken up by a chain that stands elsewhere with other samples.
        let steps = whole.steps();
        let mut saving = chain(case, 3, 104);
        for at in 0..=steps {
            let saved = saving.save().unwrap();
            let mut taken = chain(case, 3, 900);
            (0..at.min(3)).for_each(|_| assert!(taken.step().is_ok()));
            taken.restore(&saved).unwrap();
            assert_eq!((taken.position(), taken.x()), (at, saving.x()), "{name}");
            taken.run().unwrap();
            assert!(bits(taken.x()) == want[4 * 6..7 * 6], "{name}: saved before call {at} of {steps}");
            inner += usize::from(at > 0 && at < steps && !case.sampler.settles(at - 1));
            places += 1;
            saving.step().unwrap();
        }
        kept += usize::from(case.sampler.state_len(1) > 0);
    }
    println!("{} samplers, {kept} of them with history: saved at {places} places, {inner} within a step", cases.len());
    // The list holds every kind; and some of them have history and inner stages, or this shows nothing.
    for (name, kind) in SamplerKind::NAMES {
        assert!(cases.iter().any(|c| c.kind == Some(kind)), "{name}");
    }
    assert!(kept >= 15 && inner >= 50, "{kept} {inner}");
}
