//! An attached stream.

use std::sync::Arc;

use serde_json::Value;

use super::losses::Losses;
use super::runner::Feed;
use super::stream::{Event, Inbox};

/// An attached stream: where its events go, and the number of the last one delivered.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) last_seq: u64,
    /// Gaps since the last event that was in order.
    pub(super) gaps: u32,
    /// Those of its subscriptions.
    pub(super) losses: Losses,
    pub(super) inbox: Arc<Inbox>,
    /// To the task that runs its calls, if it has tools.
    feed: Option<Feed>,
}

impl Attached {
    /// Deliver the events after `after` to the inbox.
    pub(super) fn new(after: u64, inbox: Arc<Inbox>, feed: Option<Feed>) -> Self {
        Self {
            last_seq: after,
            gaps: 0,
            losses: Losses::default(),
            inbox,
            feed,
        }
    }

    /// The server has attached the stream with this result, and sends its events from now on.
    pub(super) fn begins(&mut self, result: &Value) {
        self.losses = Losses::default();
        if let Some(feed) = &mut self.feed {
            feed.attached(result["head_seq"].as_u64().unwrap_or(0), self.last_seq);
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        if let Some(feed) = &mut self.feed {
            feed.told(&event);
        }
        self.inbox.push(event);
    }

    /// The events up to this one were received.
    pub(super) fn advance(&mut self, seq: u64) {
        self.last_seq = seq;
        self.gaps = 0;
    }

    /// The events up to `last_seq` were delivered.
    pub(super) fn told(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.passed(self.last_seq);
        }
    }
}
