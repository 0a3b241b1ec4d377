//! What a run will take, said before one that takes long.

use std::time::Instant;

use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::pipeline::Pipeline;
use undiffuse::schedule::Level;
use undiffuse::{Cancel, Result};

use crate::arrays::Array;
use crate::output::note;

/// Runs of fewer operations take less than a minute on anything that has an operating system: they are not measured.
const FLOPS: f64 = 2e11;
/// Seconds that a user waits without being told.
const LONG: f64 = 60.0;
/// The time of a vector-Jacobian product over that of a prediction (benches/README.md).
const PRODUCT: f64 = 2.2;

/// The calls of a run.
pub struct Run<'a> {
    /// The compiled model.
    pub pipeline: &'a Pipeline,
    /// Samples of one call.
    pub batch: usize,
    /// Batches.
    pub batches: usize,
    /// Network calls for each.
    pub calls: usize,
    /// Vector-Jacobian products for each.
    pub products: usize,
    /// Bytes of the denoiser's memory.
    pub workspace: usize,
    /// Bytes of the results.
    pub results: usize,
    /// The options that make it shorter.
    pub less: &'a str,
}

/// Calls the network once, where the run is large, and says what all calls will take if that is over a minute.
pub fn tell(run: &Run<'_>, denoiser: &mut impl Denoiser, level: Level, cancel: &Cancel) -> Result<()> {
    let calls = run.calls as f64 + PRODUCT * run.products as f64;
    let all = calls * run.batches as f64;
    if run.pipeline.flops() as f64 * run.batch as f64 * all < FLOPS {
        return Ok(());
    }
    let x = Array::zeros("the samples", &[run.batch, run.pipeline.sample_dims().elements()])?;
    let mut out = Array::zeros("the prediction", &[run.batch, denoiser.output_len()])?;
    let mut seconds = f64::INFINITY;
    // The first call may find caches cold and clocks low.
    for _ in 0..2 {
        let start = Instant::now();
        denoiser.predict(&Call { level, first_sample: 0, cancel }, &x.data, &mut out.data)?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    let networks = run.pipeline.weight_bytes() + run.workspace;
    match text(seconds * all, networks.saturating_add(run.results), run) {
        Some(text) => note(&text),
        None => Ok(()),
    }
}

fn text(seconds: f64, bytes: usize, run: &Run<'_>) -> Option<String> {
    let Run { batch, batches, calls, products, less, .. } = run;
    let products = if *products > 0 { format!(" and {products} vector-Jacobian products") } else { String::new() };
    let smaller = if *batch > 1 { ", a smaller --batch less memory" } else { "" };
    (seconds > LONG).then(|| {
        format!(
            "this will take about {} and {} MB of memory: {batches} batches of {batch}, {calls} network calls{products} each. {less} \
             take less time{smaller}; Ctrl-C leaves nothing",
            time(seconds),
            bytes.div_ceil(1_000_000),
        )
    })
}

/// A time in the unit that suits it.
fn time(seconds: f64) -> String {
    match seconds / 60.0 {
        m if m < 90.0 => format!("{m:.0} min"),
        m if m < 48.0 * 60.0 => format!("{:.1} h", m / 60.0),
        m => format!("{:.0} days", m / 60.0 / 24.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (seconds, text) in [(61.0, "1 min"), (600.0, "10 min"), (7200.0, "2.0 h"), (4e5, "5 days")] {
            assert_eq!(time(seconds), text);
        }
    }
}
