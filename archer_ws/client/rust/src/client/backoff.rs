//! How long to wait before the next attempt (protocol section 11): full jitter, so that a thousand clients of one
//! restarted server do not come back at once.

use std::time::Duration;

pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            ceiling: min,
        }
    }

    /// The next pause: anything up to a ceiling that doubles.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.ceiling.mul_f64(fastrand::f64());
        self.ceiling = (self.ceiling * 2).min(self.max);
        pause
    }

    /// A request succeeded: after the next loss, start again from the first ceiling.
    pub(super) fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_under_a_ceiling_that_doubles_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
        for ceiling_ms in [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000] {
            assert!(backoff.next_pause() <= Duration::from_millis(ceiling_ms));
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(500));
    }
}
