//! The requests without a response and the attached streams: what responses, events and losses of a connection mean for
//! them.
//!
//! Owned by the connection's task; does no I/O of its own. Frames for the server go into `outgoing`, while there is one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::runner::Feed;
use super::stream::{Event, Inbox};
use super::{Error, Ids, Numbered};
use crate::types::{
    Method, Notification, RequestId, Response, ServerMessage, StreamCancelParams,
    StreamSubscribeParams, StreamUnsubscribeParams,
};

/// So many gaps in a row are mended by asking again; then the server is at fault.
const GAPS_MAX: u32 = 3;

type Reply = oneshot::Sender<Result<Value, Error>>;

/// What handles ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    Call {
        request: Numbered,
        reply: Reply,
    },
    /// A request whose result attaches a stream.
    Open {
        request: Numbered,
        reply: Reply,
        stream_id: String,
        attached: Attached,
    },
    /// The reader is gone.
    LetGo {
        stream_id: String,
        inbox: Arc<Inbox>,
        cancel: bool,
    },
}

/// What a response is for.
enum Awaited {
    Reply(Reply),
    Attach {
        reply: Reply,
        stream_id: String,
        attached: Attached,
    },
    /// A stream is subscribed anew: what matters is only if that fails.
    Reattach {
        stream_id: String,
    },
    /// Nothing waits for it.
    Nothing,
}

struct OpenRequest {
    text: String,
    awaited: Awaited,
}

/// Where a stream's events go, and what has gone there.
#[derive(Debug)]
pub(super) struct Attached {
    last_seq: u64,
    /// Since the last event that was in its place.
    gaps: u32,
    inbox: Arc<Inbox>,
    /// Of whoever runs its calls.
    feed: Option<Feed>,
}

impl Attached {
    /// The events after `after` go to the inbox.
    pub(super) fn new(after: u64, inbox: Arc<Inbox>, feed: Option<Feed>) -> Self {
        Self {
            last_seq: after,
            gaps: 0,
            inbox,
            feed,
        }
    }

    /// The server will tell its events, as this result of a request says.
    fn begins(&mut self, result: &Value) {
        if let Some(feed) = &mut self.feed {
            feed.attached(result["head_seq"].as_u64().unwrap_or(0), self.last_seq);
        }
    }

    fn push(&mut self, event: Event) {
        if let Some(feed) = &mut self.feed {
            feed.told(&event);
        }
        self.inbox.push(event);
    }

    /// The events up to this one have come.
    fn advance(&mut self, seq: u64) {
        self.last_seq = seq;
        self.gaps = 0;
    }

    /// All of them were told.
    fn told(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.passed(self.last_seq);
        }
    }
}

pub(super) struct Ledger {
    ids: Ids,
    /// By request id, which is the order in which they were made.
    open_requests: BTreeMap<i64, OpenRequest>,
    streams: HashMap<String, Attached>,
    outgoing: Option<mpsc::UnboundedSender<Message>>,
}

impl Ledger {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            open_requests: BTreeMap::new(),
            streams: HashMap::new(),
            outgoing: None,
        }
    }

    /// A socket stands: subscribe where each stream was, then repeat the requests without a response.
    pub(super) fn connected(&mut self, outgoing: mpsc::UnboundedSender<Message>) {
        self.outgoing = Some(outgoing);
        self.open_requests
            .retain(|_, request| !matches!(request.awaited, Awaited::Reattach { .. }));
        let repeated: Vec<String> = self
            .open_requests
            .values()
            .map(|request| request.text.clone())
            .collect();
        let stream_ids: Vec<String> = self.streams.keys().cloned().collect();
        for stream_id in stream_ids {
            self.subscribe(stream_id);
        }
        for text in repeated {
            self.transmit(text);
        }
    }

    /// There is no socket: what is asked from here on waits for the next.
    pub(super) fn disconnected(&mut self) {
        self.outgoing = None;
    }

    /// Do what a handle asks.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Call { request, reply } => self.ask(request, Awaited::Reply(reply)),
            Command::Open {
                request,
                reply,
                stream_id,
                attached,
            } => self.ask(
                request,
                Awaited::Attach {
                    reply,
                    stream_id,
                    attached,
                },
            ),
            Command::LetGo {
                stream_id,
                inbox,
                cancel,
            } => self.let_go(stream_id, &inbox, cancel),
        }
    }

    fn let_go(&mut self, stream_id: String, inbox: &Arc<Inbox>, cancel: bool) {
        if self
            .streams
            .get(&stream_id)
            .is_some_and(|attached| !Arc::ptr_eq(&attached.inbox, inbox))
        {
            return; // another reader took over: the stream is its own now
        }
        let was_attached = self.streams.remove(&stream_id).is_some();
        if cancel {
            self.ask_for_nothing(StreamCancelParams::new(stream_id));
        } else if was_attached {
            self.ask_for_nothing(StreamUnsubscribeParams::new(stream_id));
        }
    }

    fn ask_for_nothing<M: Method>(&mut self, params: M) {
        if let Ok(request) = self.ids.request(params) {
            self.ask(request, Awaited::Nothing);
        }
    }

    /// Send a request; without a socket it waits for the next.
    fn ask(&mut self, Numbered { id, text }: Numbered, awaited: Awaited) {
        self.transmit(text.clone());
        self.open_requests.insert(id, OpenRequest { text, awaited });
    }

    fn transmit(&self, text: String) {
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.send(Message::text(text)); // a writer that has ended is a loss, which reading notices
        }
    }

    fn subscribe(&mut self, stream_id: String) {
        let Some(attached) = self.streams.get(&stream_id) else {
            return;
        };
        let params = StreamSubscribeParams {
            after: attached.last_seq,
            ..StreamSubscribeParams::new(&stream_id)
        };
        if let Ok(request) = self.ids.request(params) {
            self.ask(request, Awaited::Reattach { stream_id });
        }
    }

    /// A frame from the server; whether it says that a request succeeded.
    pub(super) fn take(&mut self, text: &str) -> Result<bool, Error> {
        match serde_json::from_str(text)? {
            ServerMessage::Response(Response {
                id: Some(RequestId::Number(id)),
                outcome,
            }) => {
                let succeeded = outcome.is_ok();
                if let Some(request) = self.open_requests.remove(&id) {
                    self.settle(request.awaited, outcome.map_err(|error| error.data.into()));
                }
                Ok(succeeded)
            }
            // The server could not read a frame of ours.
            ServerMessage::Response(Response { outcome, .. }) => {
                let said = outcome
                    .map_or_else(|error| error.message, |_| "a response to no request".into());
                Err(Error::Protocol(said))
            }
            ServerMessage::Notification(notification) => {
                self.deliver(notification, text);
                Ok(false)
            }
        }
    }

    fn settle(&mut self, awaited: Awaited, outcome: Result<Value, Error>) {
        match (awaited, outcome) {
            (Awaited::Reply(reply), outcome) => drop(reply.send(outcome)),
            (
                Awaited::Attach {
                    reply,
                    stream_id,
                    mut attached,
                },
                Ok(result),
            ) if !reply.is_closed() => {
                attached.begins(&result);
                if let Some(former) = self.streams.insert(stream_id, attached) {
                    former.inbox.fail(Error::Replaced);
                }
                drop(reply.send(Ok(result)));
            }
            (Awaited::Attach { reply, .. }, outcome) => drop(reply.send(outcome)),
            (Awaited::Reattach { stream_id }, Err(error)) => {
                if let Some(attached) = self.streams.remove(&stream_id) {
                    attached.inbox.fail(error);
                }
            }
            (Awaited::Reattach { stream_id }, Ok(result)) => {
                if let Some(attached) = self.streams.get_mut(&stream_id) {
                    attached.begins(&result);
                }
            }
            (Awaited::Nothing, _) => {}
        }
    }

    /// What has numbers is an event of its stream, known or not (protocol section 5.6).
    fn deliver(&mut self, notification: Notification, frame: &str) {
        let (Some(stream_id), Some((from, seq))) =
            (notification.stream_id(), notification.numbers())
        else {
            // A heartbeat has done its work by coming; a draining server closes when it must, with a code that says so.
            return;
        };
        let stream_id = stream_id.to_owned();
        if matches!(&notification, Notification::StreamDelta(it) if it.reset == Some(true)) {
            self.reset(&stream_id, from);
        }
        if !self.advance(&stream_id, from, seq) {
            return;
        }
        let is_last = matches!(notification, Notification::StreamEnded(_));
        if let Some(attached) = self.streams.get_mut(&stream_id) {
            if let Some(event) = Event::of(notification, seq, frame) {
                attached.push(event);
            }
            attached.told();
        }
        if is_last {
            self.streams.remove(&stream_id);
        }
    }

    fn reset(&mut self, stream_id: &str, from: u64) {
        if let Some(attached) = self.streams.get_mut(stream_id) {
            attached.last_seq = from.saturating_sub(1);
            attached.push(Event::Reset);
        }
    }

    /// Whether the stream's events `from..=seq` are the next ones; they count as seen then.
    fn advance(&mut self, stream_id: &str, from: u64, seq: u64) -> bool {
        let Some(attached) = self.streams.get_mut(stream_id) else {
            return false;
        };
        if from == attached.last_seq + 1 {
            attached.advance(seq);
            return true;
        }
        if from > attached.last_seq {
            self.fetch_missing(stream_id);
        }
        false
    }

    /// Promised not to happen (protocol section 5); what is missing is fetched rather than left out.
    fn fetch_missing(&mut self, stream_id: &str) {
        let is_asked = self.open_requests.values().any(
            |request| matches!(&request.awaited, Awaited::Reattach { stream_id: asked } if asked == stream_id),
        );
        let Some(attached) = self.streams.get_mut(stream_id).filter(|_| !is_asked) else {
            return;
        };
        attached.gaps += 1;
        if attached.gaps <= GAPS_MAX {
            self.subscribe(stream_id.to_owned());
        } else if let Some(attached) = self.streams.remove(stream_id) {
            let fault = format!("the server leaves out events of stream {stream_id}");
            attached.inbox.fail(Error::Protocol(fault));
        }
    }

    /// Nothing more will come: whatever waits is told why.
    pub(super) fn fail(&mut self, error: &Error) {
        for attached in std::mem::take(&mut self.streams).into_values() {
            attached.inbox.fail(error.clone());
        }
        for request in std::mem::take(&mut self.open_requests).into_values() {
            self.settle(request.awaited, Err(error.clone()));
        }
    }
}
