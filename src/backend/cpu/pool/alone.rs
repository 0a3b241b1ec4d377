//! When a caller does without its workers.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

/// How much longer than what was lost the caller stays alone: what a busy machine takes is then at most a twentieth.
const TIMES: u32 = 20;

/// Less is how unevenly work ends among threads that nothing disturbs.
const EVEN: Duration = Duration::from_micros(50);

/// A worker that another program puts off its core while it is inside holds the caller up for as long as that program
/// runs, some milliseconds, where a whole call may take one. Who lost more by that than the worker's help is worth goes
/// on alone for a while, then tries again. Which thread does what changes no result.
pub(super) struct Alone {
    /// The zero of `until`.
    origin: Instant,
    /// Nanoseconds.
    until: AtomicU64,
}

impl Alone {
    pub fn new() -> Self {
        Self { origin: Instant::now(), until: AtomicU64::new(0) }
    }

    /// Whether the caller works alone at `now`.
    pub fn lasts(&self, now: Instant) -> bool {
        self.nanos(now) < self.until.load(Ordering::Relaxed)
    }

    /// What was opened at `start` took `all`, of which the caller waited `waited` for the last of `workers` workers.
    pub fn after(&self, start: Instant, all: Duration, waited: Duration, workers: usize) {
        // Who is not held up does at least an even share of the work, so alone it would have taken at most this.
        let alone =
            all.saturating_sub(waited).saturating_mul(u32::try_from(workers).unwrap_or(u32::MAX).saturating_add(1));
        let lost = all.saturating_sub(alone);
        if lost > EVEN {
            let end = self.nanos(start).saturating_add(nanos(all)).saturating_add(nanos(lost.saturating_mul(TIMES)));
            self.until.store(end, Ordering::Relaxed);
        }
    }

    /// For tests in which threads must meet.
    #[cfg(test)]
    pub fn end(&self) {
        self.until.store(0, Ordering::Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.origin))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_longer_than_the_work_is_followed_by_twenty_times_what_was_lost() {
        let alone = Alone::new();
        let ms = Duration::from_millis;
        let start = alone.origin + ms(5);
        assert!(!alone.lasts(start));
        // An uneven end: two threads took 3 ms for what one would have done in 4.
        alone.after(start, ms(3), ms(1), 1);
        assert!(!alone.lasts(start + ms(3)));
        // 1 ms of work and 4 ms of waiting: 3 ms more than alone.
        alone.after(start, ms(5), ms(4), 1);
        assert!(alone.lasts(start + ms(5)) && alone.lasts(start + ms(64)));
        assert!(!alone.lasts(start + ms(65)));
        // The same wait beside three workers, who would have had 3 ms of the work of 4.
        let alone = Alone::new();
        let start = alone.origin;
        alone.after(start, ms(5), ms(4), 3);
        assert!(alone.lasts(start + ms(24)) && !alone.lasts(start + ms(25)));
        alone.after(start, Duration::MAX, Duration::MAX, usize::MAX);
        assert!(alone.lasts(start + ms(25)));
    }
}
