//! Classifier-free guidance (Ho and Salimans 2022): a prediction away from what the network says of a negative
//! condition.

use super::Conditions;
use super::conditions::Held;
use crate::error::{Error, Result, ensure, err};
use crate::noise::Fingerprint;
use crate::schedule::Level;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How a network is guided. With c its prediction under the conditions and u that under the negative ones, the guided
/// one is g = u + scale (c - u), and with `rescale` phi it is phi g std(c) / std(g) + (1 - phi) g (Lin et al. 2024), as
/// diffusers' `guidance_scale` and `guidance_rescale`. Both are of one call with twice the batch. Where a network
/// learned a variance, that is c's.
///
/// ```
/// use undiffuse::denoiser::{Conditions, Guidance};
///
/// // A model of ten classes, whose label 10 stands for none.
/// let guidance = Guidance { rescale: 0.7, ..Guidance::new(3.0, Conditions::new().with_classes(&[10])) };
/// assert!(guidance.acts(2.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    /// 1 is no guidance, 0 the negative conditions alone.
    pub scale: f32,
    /// phi, 0 (none) to 1.
    pub rescale: f32,
    /// Guides only where low < sigma / alpha <= high (Kynkaanniemi et al. 2024), which is the sigma of EDM; elsewhere
    /// the prediction is c, of a call of half the cost. Mostly 0 and infinity.
    pub interval: [f64; 2],
    /// What u is given in place of the conditions of these names; of others it is given the same. At least one.
    pub negative: Conditions,
}

impl Guidance {
    /// Of a scale, at all levels, without rescaling.
    pub fn new(scale: f32, negative: Conditions) -> Self {
        Self { scale, rescale: 0.0, interval: [0.0, f64::INFINITY], negative }
    }

    /// Whether it changes anything where sigma / alpha is this.
    pub fn acts(&self, ratio: f64) -> bool {
        let [low, high] = self.interval;
        self.scale != 1.0 && ((low < ratio && ratio <= high) || (ratio == 0.0 && low == 0.0))
    }

    /// Errors (kind `InvalidArgument`) name what is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        let [low, high] = self.interval;
        ensure!(
            self.scale.is_finite(),
            InvalidArgument,
            "the guidance scale is {}, expected a finite number",
            self.scale
        );
        ensure!(
            (0.0..=1.0).contains(&self.rescale),
            InvalidArgument,
            "the guidance rescale is {}, expected 0 to 1",
            self.rescale
        );
        ensure!(
            low >= 0.0 && low < high,
            InvalidArgument,
            "the guidance interval is {low} to {high}, expected 0 or more and rising"
        );
        Ok(())
    }
}

/// A guidance with its negative rows, for the conditions of a network in their order.
pub(super) struct Pair {
    guidance: Guidance,
    /// `None` where u is given what c is.
    pub negative: Vec<Option<Held>>,
}

impl Pair {
    /// Errors: as [`Guidance::check`], and as for conditions, for the negative ones.
    pub fn new(guidance: &Guidance, conditions: &[Held]) -> Result<Self> {
        guidance.check()?;
        let known = || conditions.iter().map(|c| c.input.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(!conditions.is_empty(), InvalidArgument, "guidance is asked for, but the model takes no condition");
        ensure!(
            !guidance.negative.is_empty(),
            InvalidArgument,
            "guidance needs a negative condition, of one or more of {}",
            known()
        );
        for name in guidance.negative.names() {
            let is = conditions.iter().any(|c| c.input.name == name);
            ensure!(
                is,
                InvalidArgument,
                "the model has no condition {name:?} for a negative one, expected {}",
                known()
            );
        }
        let negative = conditions.iter().map(|c| {
            let Some(rows) = guidance.negative.get(&c.input.name) else { return Ok(None) };
            let mut held = Held::new(c.slot, &c.input);
            held.set(rows).map_err(|e: Error| e.context(String::from("negative")))?;
            Ok(Some(held))
        });
        let negative = negative.collect::<Result<_>>()?;
        let guidance = Guidance { negative: Conditions::new(), ..guidance.clone() };
        Ok(Self { guidance, negative })
    }

    /// Whether it changes anything at a level.
    pub fn acts(&self, level: &Level) -> bool {
        self.guidance.acts(level.sigma / level.alpha)
    }

    /// Other negative rows for one of the conditions that has some.
    pub fn set(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        let held = self.negative.iter_mut().flatten().find(|h| h.input.name == name);
        match held {
            Some(held) => held.set(rows).map_err(|e| e.context(String::from("negative"))),
            None => Err(err!(InvalidArgument, "the guidance was made without a negative condition {name:?}")),
        }
    }

    pub fn looks_at_numbers(&self) -> bool {
        self.negative.iter().flatten().any(|h| h.count() > 1)
    }

    pub fn fingerprint(&self) -> u64 {
        let Guidance { scale, rescale, interval: [low, high], .. } = self.guidance;
        let own = Fingerprint::new().bytes(format!("guided {scale} {rescale} {low} {high}").as_bytes()).finish();
        self.negative.iter().flatten().fold(own, |sum, held| sum.rotate_left(7) ^ held.fingerprint())
    }

    /// The guided prediction of a sample: of its first `n` values, the others are c's.
    pub fn combine(&self, c: &[f32], u: &[f32], n: usize, out: &mut [f32]) {
        let Guidance { scale, rescale, .. } = self.guidance;
        out.copy_from_slice(c);
        let (Some(out), Some(c)) = (out.get_mut(..n), c.get(..n)) else { return };
        out.iter_mut().zip(c.iter().zip(u)).for_each(|(g, (c, u))| *g = u + scale * (c - u));
        if rescale > 0.0 {
            let by = f64::from(rescale) * spread(c).1 / spread(out).1 + 1.0 - f64::from(rescale);
            out.iter_mut().for_each(|g| *g = (by * f64::from(*g)) as f32);
        }
    }

    /// The cotangents of c and u for the cotangent `v` of what [`Pair::combine`] gives.
    pub fn cotangents(&self, [c, u, v]: [&[f32]; 3], n: usize, to_c: &mut [f32], to_u: &mut [f32]) {
        let (scale, phi) = (f64::from(self.guidance.scale), f64::from(self.guidance.rescale));
        to_c.copy_from_slice(v);
        to_u.fill(0.0);
        let (Some(to_c), Some(to_u), Some(c)) = (to_c.get_mut(..n), to_u.get_mut(..n), c.get(..n)) else { return };
        let guided = |i: usize| {
            let (c, u) = (c.get(i).copied().unwrap_or_default(), u.get(i).copied().unwrap_or_default());
            f64::from(u) + scale * (f64::from(c) - f64::from(u))
        };
        // With L = <v, g> (phi std(c) / std(g) + 1 - phi): its gradients by g, which is linear in c and u, and by c
        // itself.
        let (mut plain, mut along_g, mut along_c, mut mean_g, mut mean_c) = (1.0, 0.0, 0.0, 0.0, 0.0);
        if phi > 0.0 {
            for (i, g) in to_u.iter_mut().enumerate() {
                *g = guided(i) as f32;
            }
            let (of_g, of_c) = (spread(to_u), spread(c));
            let dot: f64 = v.iter().zip(&*to_u).map(|(v, g)| f64::from(*v) * f64::from(*g)).sum();
            // Sums of squares in place of variances: their numbers of terms cancel.
            let count = n as f64;
            (mean_g, mean_c) = (of_g.0, of_c.0);
            plain = phi * of_c.1 / of_g.1 + 1.0 - phi;
            along_g = -phi * dot * of_c.1 / (of_g.1 * of_g.1 * of_g.1 * count);
            along_c = phi * dot / (of_c.1 * of_g.1 * count);
        }
        for (i, ((to_c, to_u), (c, v))) in to_c.iter_mut().zip(to_u).zip(c.iter().zip(v)).enumerate() {
            let by_g = plain * f64::from(*v) + along_g * (guided(i) - mean_g);
            *to_c = (scale * by_g + along_c * (f64::from(*c) - mean_c)) as f32;
            *to_u = ((1.0 - scale) * by_g) as f32;
        }
    }
}

/// The mean and the standard deviation, of all values alike.
fn spread(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let squares = values.iter().map(|v| (f64::from(*v) - mean) * (f64::from(*v) - mean)).sum::<f64>();
    (mean, libm::sqrt(squares / n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Input, Role};
    use crate::tensor::Dims;
    use alloc::vec;

    fn held(name: &str) -> Held {
        Held::new(2, &Input::new(name, Role::Vector, Dims::new(&[1]).unwrap()))
    }

    fn pair(scale: f32, rescale: f32) -> Pair {
        let guidance = Guidance { rescale, ..Guidance::new(scale, Conditions::new().with("v", &[0.0])) };
        Pair::new(&guidance, &[held("v")]).unwrap()
    }

    #[test]
    fn cotangents_are_those_of_finite_differences() {
        let (c, u, v) = ([0.3f32, -1.0, 0.7, 2.0], [1.0f32, 0.2, -0.4, 0.5], [0.5f32, -1.5, 1.0, 0.25]);
        for (scale, rescale) in [(3.0, 0.0), (3.0, 0.7), (0.5, 1.0)] {
            let pair = pair(scale, rescale);
            let value = |c: &[f32], u: &[f32]| {
                let mut out = [0.0f32; 4];
                pair.combine(c, u, 3, &mut out);
                out.iter().zip(&v).map(|(o, v)| f64::from(*o) * f64::from(*v)).sum::<f64>()
            };
            let (mut to_c, mut to_u) = ([0.0f32; 4], [0.0f32; 4]);
            pair.cotangents([&c, &u, &v], 3, &mut to_c, &mut to_u);
            for i in 0..4 {
                let step = 1e-2f32;
                let moved = |x: &[f32; 4], by: f32| {
                    let mut x = *x;
                    x[i] += by;
                    x
                };
                let by = 2.0 * f64::from(step);
                let dc = (value(&moved(&c, step), &u) - value(&moved(&c, -step), &u)) / by;
                let du = (value(&c, &moved(&u, step)) - value(&c, &moved(&u, -step))) / by;
                assert!((f64::from(to_c[i]) - dc).abs() < 2e-3, "{i}: {} for {dc}", to_c[i]);
                assert!((f64::from(to_u[i]) - du).abs() < 2e-3, "{i}: {} for {du}", to_u[i]);
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let held = vec![held("v")];
        let good = Guidance::new(2.0, Conditions::new().with("v", &[0.0]));
        let refused = [
            (Guidance { scale: f32::NAN, ..good.clone() }, "scale"),
            (Guidance { rescale: 1.5, ..good.clone() }, "rescale"),
            (Guidance { interval: [2.0, 1.0], ..good.clone() }, "interval"),
            (Guidance::new(2.0, Conditions::new()), "negative condition"),
            (Guidance::new(2.0, Conditions::new().with("w", &[0.0])), "\"w\""),
            (Guidance::new(2.0, Conditions::new().with("v", &[f32::NAN])), "negative"),
        ];
        for (guidance, text) in refused {
            let e = Pair::new(&guidance, &held).map(|_| ()).unwrap_err();
            assert!(e.message().contains(text), "{e}");
        }
        assert!(Pair::new(&good, &[]).is_err());
        let some = Guidance { interval: [0.5, 2.0], ..good };
        assert_eq!([0.0, 0.5, 1.0, 2.0, 2.5].map(|r| some.acts(r)), [false, false, true, true, false]);
    }
}
