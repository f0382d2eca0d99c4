//! How often the connection was lost while a request waited for its response, and what follows from that.

use std::time::Duration;

use tokio::time::Instant;

/// After so many losses in a row with the same request in flight, it is sent only while no other such request is in
/// flight: one of them may be what the connection is closed for, and the others must not fail with it.
const LOSSES_OF_A_SUSPECT: u32 = 2;
/// After so many it is sent after all others, and fails if they have taken long enough: in a bad network, it may not be
/// the reason for any of them.
const LOSSES_MAX: u32 = 5;

/// Connections in a row that were lost while the same request waited for its response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub(super) count: u32,
    /// When the first of them was lost.
    since: Option<Instant>,
}

impl Losses {
    /// Whether the connection may be closed for this request.
    pub(super) fn are_suspicious(self) -> bool {
        self.count >= LOSSES_OF_A_SUSPECT
    }

    /// Whether the request very likely is the reason.
    pub(super) fn are_many(self) -> bool {
        self.count >= LOSSES_MAX
    }

    /// One more was lost.
    pub(super) fn add(&mut self, now: Instant) {
        self.count += 1;
        self.since.get_or_insert(now);
    }

    /// Whether the request has to fail.
    pub(super) fn are_too_many(self, now: Instant, give_up_after: Duration) -> bool {
        self.are_many() && self.since.is_some_and(|since| now - since >= give_up_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_too_many_once_there_are_enough_and_the_first_is_long_enough_ago() {
        let first = Instant::now();
        let after = |seconds| first + Duration::from_secs(seconds);
        let mut losses = Losses::default();
        for seconds in 0..4 {
            losses.add(after(seconds));
            assert!(!losses.are_too_many(after(3600), Duration::ZERO));
        }
        losses.add(after(10));
        assert!(!losses.are_too_many(after(10), Duration::from_secs(11)));
        assert!(losses.are_too_many(after(10), Duration::from_secs(10)));
    }
}
