//! Which of the T training timesteps a run of N steps visits.

use alloc::vec::Vec;

use super::MAX_TRAIN_TIMESTEPS;
use crate::error::{Result, ensure, err};

/// How N timesteps are spread over 0 .. T - 1 (Lin 2023, table 2). The names are diffusers'. Rounding is half to even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestepSpacing {
    /// round(linspace(0, T - 1, N)).
    Linspace,
    /// 0, r, 2 r, ... with r = T / N rounded down, plus `steps_offset`.
    #[default]
    Leading,
    /// round(T, T - T/N, T - 2 T/N, ...) - 1. Diffusers 0.42.1 yields N + 1 values, the last -1, for some N (61 of 1000
    /// is one) by a rounding accident; here it is always N.
    Trailing,
}

impl TimestepSpacing {
    /// All of them, with the names that configurations use.
    pub const NAMES: [(&'static str, Self); 3] =
        [("linspace", Self::Linspace), ("leading", Self::Leading), ("trailing", Self::Trailing)];
}

/// The N = `steps` timesteps of a run, decreasing, each below T = `train_steps`. `offset` is added by `Leading` only.
///
/// Errors (kind `InvalidArgument`): N is 0 or above T, or the offset moves a timestep to T or beyond.
pub fn spaced_timesteps(spacing: TimestepSpacing, train_steps: usize, steps: usize, offset: u32) -> Result<Vec<u32>> {
    ensure!(steps > 0, InvalidArgument, "the number of steps is 0, expected at least 1");
    ensure!(
        train_steps <= MAX_TRAIN_TIMESTEPS && steps <= train_steps,
        InvalidArgument,
        "the number of steps is {steps}, expected at most the {train_steps} that the model was trained with"
    );
    let (t, n) = (train_steps as f64, steps as f64);
    let ascending = |i: usize| (steps - 1 - i) as f64;
    let at = |i: usize| -> f64 {
        match spacing {
            TimestepSpacing::Linspace if steps == 1 => 0.0,
            // The largest is T - 1 exactly, whatever the product rounds to.
            TimestepSpacing::Linspace if i == 0 => t - 1.0,
            TimestepSpacing::Linspace => libm::rint(ascending(i) * ((t - 1.0) / (n - 1.0))),
            TimestepSpacing::Leading => ascending(i) * (train_steps / steps) as f64 + f64::from(offset),
            TimestepSpacing::Trailing => libm::rint(t - i as f64 * (t / n)) - 1.0,
        }
    };
    let list: Vec<u32> = (0..steps).map(|i| at(i) as u32).collect();
    if let Some(&first) = list.first() {
        ensure!(
            (first as usize) < train_steps,
            InvalidArgument,
            "steps_offset {offset} moves the first of {steps} timesteps to {first}, expected below {train_steps}"
        );
    }
    Ok(list)
}

/// Checks a caller's own timesteps: at least one, strictly decreasing, each below `train_steps`.
///
/// Errors (kind `InvalidArgument`) name the entry.
pub fn custom_timesteps(train_steps: usize, timesteps: &[u32]) -> Result<Vec<u32>> {
    let first = timesteps.first().ok_or_else(|| err!(InvalidArgument, "the list of timesteps is empty"))?;
    ensure!(
        (*first as usize) < train_steps,
        InvalidArgument,
        "the first timestep is {first}, expected below {train_steps}"
    );
    if let Some(i) = timesteps.windows(2).position(|w| matches!(w, [a, b] if a <= b)) {
        return Err(err!(
            InvalidArgument,
            "timestep number {} is not below the one before it, expected a decreasing list",
            i + 1
        ));
    }
    Ok(timesteps.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_table() {
        // Lin 2023, table 2: T = 1000, N = 10 (counted from 0 here).
        let leading = spaced_timesteps(TimestepSpacing::Leading, 1000, 10, 0).unwrap();
        assert_eq!(leading, [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]);
        let linspace = spaced_timesteps(TimestepSpacing::Linspace, 1000, 10, 7).unwrap();
        assert_eq!(linspace, [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]);
        let trailing = spaced_timesteps(TimestepSpacing::Trailing, 1000, 10, 7).unwrap();
        assert_eq!(trailing, [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]);
        assert_eq!(spaced_timesteps(TimestepSpacing::Leading, 1000, 2, 1).unwrap(), [501, 1]);
        assert_eq!(spaced_timesteps(TimestepSpacing::Trailing, 1000, 61, 0).unwrap().len(), 61);
    }

    #[test]
    fn nonsense_is_refused() {
        for spacing in TimestepSpacing::NAMES.map(|(_, s)| s) {
            assert!(spaced_timesteps(spacing, 1000, 0, 0).is_err());
            assert!(spaced_timesteps(spacing, 1000, 1001, 0).is_err());
            assert!(spaced_timesteps(spacing, usize::MAX, usize::MAX, 0).is_err());
        }
        assert!(spaced_timesteps(TimestepSpacing::Leading, 1000, 1000, 1).is_err());
        assert!(spaced_timesteps(TimestepSpacing::Leading, 1000, 10, u32::MAX).is_err());
        assert!(custom_timesteps(10, &[]).is_err());
        assert!(custom_timesteps(10, &[10]).is_err());
        assert!(custom_timesteps(10, &[9, 5, 5]).is_err());
        assert_eq!(custom_timesteps(10, &[9, 5, 0]).unwrap(), [9, 5, 0]);
    }

    proptest! {
        #[test]
        fn decreasing_in_range_and_as_many_as_asked(t in 1usize..3000, part in 0.0..1.0f64, offset in 0u32..4) {
            let n = (1 + (part * t as f64) as usize).min(t);
            for (_, spacing) in TimestepSpacing::NAMES {
                let offset = if (n - 1) * (t / n) + (offset as usize) < t { offset } else { 0 };
                let list = spaced_timesteps(spacing, t, n, offset).unwrap();
                prop_assert_eq!(list.len(), n);
                prop_assert!(list.windows(2).all(|w| w[0] > w[1]), "{:?}", list);
                prop_assert!((list[0] as usize) < t);
                prop_assert_eq!(custom_timesteps(t, &list).unwrap(), list);
            }
        }
    }
}
