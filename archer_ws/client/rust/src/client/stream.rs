//! A stream as its reader sees it: its events in order, the end last.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use futures_util::{Stream, StreamExt};
use serde_json::Value;

use super::ledger::Command;
use super::{Client, Error};
use crate::types::{
    CancelResult, ChatMessage, MessageRole, Notification, StreamCancelParams, StreamEnded,
    StreamProgress, StreamStarted, StreamStep, StreamToolCall, StreamToolResult, StreamToolUpdate,
    ToolCall,
};

/// The fields of a delta other than its text.
const BARE_DELTA: [&str; 4] = ["stream_id", "from", "seq", "reset"];

/// An event of a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The provider's response has begun.
    Started(StreamStarted),
    /// What happens before the first text: the stream waits in a queue, a model is being loaded, or another attempt is
    /// made.
    Progress(StreamProgress),
    /// A piece of the completion's text.
    Content(String),
    /// A piece of the model's visible reasoning.
    Reasoning(String),
    /// A piece of a call's arguments, as the model writes them. For display only: run the call at its `ToolCall`.
    Arguments(ArgumentsDelta),
    /// A complete call. With `on_tool_call: wait`, the stream's [`Tools`](super::Tools) run it if they have it.
    /// Without it the stream ends now: run the call, and send its result with the next request.
    ToolCall(StreamToolCall),
    /// The state of an open call has changed.
    ToolUpdate(StreamToolUpdate),
    /// A call has its result.
    ToolResult(StreamToolResult),
    /// All calls have their results: the model is called again, and the next completion begins.
    Step(StreamStep),
    /// Discard the text and the calls received so far: the server no longer has the missing events, and sends the whole
    /// text and all calls again.
    Reset,
    /// An event that [`types`](crate::types) does not have: a newer server's, or text of another kind.
    Unknown(UnknownEvent),
    /// The stream's end, always the last event.
    Ended(Box<StreamEnded>),
}

impl Event {
    /// Convert a numbered notification to the reader's event; `frame` is its JSON. None if it has nothing for a reader.
    pub(super) fn of(notification: Notification, seq: u64, frame: &str) -> Option<Self> {
        match notification {
            Notification::StreamStarted(it) => Some(Self::Started(it)),
            Notification::StreamProgress(it) => Some(Self::Progress(it)),
            Notification::StreamDelta(it) => match (it.content, it.reasoning, it.arguments) {
                (Some(text), ..) => Some(Self::Content(text)),
                (None, Some(text), _) => Some(Self::Reasoning(text)),
                (None, None, arguments) => match (arguments, it.call_id, it.name) {
                    (Some(arguments), Some(call_id), Some(name)) => {
                        Some(Self::Arguments(ArgumentsDelta {
                            call_id,
                            name,
                            arguments,
                        }))
                    }
                    _ => unknown_text(seq, frame),
                },
            },
            Notification::StreamToolCall(it) => Some(Self::ToolCall(it)),
            Notification::StreamToolUpdate(it) => Some(Self::ToolUpdate(it)),
            Notification::StreamToolResult(it) => Some(Self::ToolResult(it)),
            Notification::StreamStep(it) => Some(Self::Step(it)),
            Notification::StreamEnded(it) => Some(Self::Ended(Box::new(it))),
            Notification::Unknown { method, params } => Some(Self::Unknown(UnknownEvent {
                method,
                seq,
                params,
            })),
            Notification::Heartbeat(_)
            | Notification::ServerDraining(_)
            | Notification::SessionChanged(_) => None,
        }
    }
}

/// A piece of a call's arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgumentsDelta {
    /// The call's id.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// The piece: a part of a JSON text. All pieces together are valid JSON.
    pub arguments: String,
}

/// The last completion of a stream that has ended. A stream that waited for tool results has earlier ones too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its calls, in order.
    pub tool_calls: Vec<StreamToolCall>,
    /// How the stream ended.
    pub ended: StreamEnded,
}

impl Answer {
    /// The completion as a message for the next request; the tool results of its calls follow it there.
    pub fn message(&self) -> ChatMessage {
        let made = self.tool_calls.iter().map(|call| ToolCall {
            arguments: call.arguments.clone(),
            ..ToolCall::new(&call.call_id, &call.name)
        });
        ChatMessage {
            tool_calls: (!self.tool_calls.is_empty()).then(|| made.collect()),
            ..ChatMessage::new(MessageRole::Assistant, self.text.as_str())
        }
    }
}

/// Keep a delta unchanged if it has text of a kind that the types do not have; None if it has no text.
fn unknown_text(seq: u64, frame: &str) -> Option<Event> {
    let mut message: Value = serde_json::from_str(frame).ok()?;
    let params = message.get_mut("params")?.take();
    let is_bare = params
        .as_object()?
        .keys()
        .all(|name| BARE_DELTA.contains(&name.as_str()));
    (!is_bare).then(|| {
        Event::Unknown(UnknownEvent {
            method: "stream/delta".into(),
            seq,
            params,
        })
    })
}

/// An event that [`types`](crate::types) does not have, unchanged.
#[derive(Clone, Debug)]
pub struct UnknownEvent {
    /// The notification's method.
    pub method: String,
    /// Its number in the stream's log; the last number, if it merges several events.
    pub seq: u64,
    /// The notification's params.
    pub params: Value,
}

/// A running stream. Read it with [`StreamExt::next`], up to [`Event::Ended`] or to an error that says why no more
/// events will arrive.
///
/// Dropping it before its end cancels the stream on the server, and the provider's generation.
/// [`detach`](Self::detach) drops it without cancelling.
#[derive(Debug)]
pub struct ChatStream {
    stream_id: String,
    provider: Option<String>,
    model: Option<String>,
    inbox: Arc<Inbox>,
    client: Client,
    cancels_when_dropped: bool,
}

impl ChatStream {
    pub(super) fn new(stream_id: String, inbox: Arc<Inbox>, client: Client) -> Self {
        Self {
            stream_id,
            provider: None,
            model: None,
            inbox,
            client,
            cancels_when_dropped: true,
        }
    }

    pub(super) fn accepted(mut self, provider: String, model: String) -> Self {
        self.provider = Some(provider);
        self.model = Some(model);
        self
    }

    pub(super) fn cancelled_when_dropped(mut self, is_cancelled: bool) -> Self {
        self.cancels_when_dropped = is_cancelled;
        self
    }

    /// The stream's id. With it the stream can be cancelled or resumed from any connection.
    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    /// The provider and the model that generate. None for a resumed stream, and for one whose request got no response:
    /// its [`Event::Started`] has them.
    pub fn route(&self) -> Option<(&str, &str)> {
        Some((self.provider.as_deref()?, self.model.as_deref()?))
    }

    /// Cancel the generation. The stream still ends with [`Event::Ended`], after the text generated so far.
    pub async fn cancel(&self) -> Result<CancelResult, Error> {
        self.client
            .call(StreamCancelParams::new(&self.stream_id))
            .await
    }

    /// Drop the stream without cancelling it: it runs on at the server, and [`Client::resume`] reads it again.
    pub fn detach(mut self) {
        self.cancels_when_dropped = false;
    }

    /// Read to the end; returns the text of the last completion, and how the stream ended.
    pub async fn finish(self) -> Result<(String, StreamEnded), Error> {
        let answer = self.answer().await?;
        Ok((answer.text, answer.ended))
    }

    /// Read to the end; returns the last completion with its calls.
    pub async fn answer(mut self) -> Result<Answer, Error> {
        let (mut text, mut tool_calls) = (String::new(), Vec::new());
        while let Some(event) = self.next().await {
            match event? {
                Event::Content(piece) => text.push_str(&piece),
                Event::ToolCall(call) => tool_calls.push(call),
                Event::Reset | Event::Step(_) => {
                    text.clear();
                    tool_calls.clear();
                }
                Event::Ended(ended) => {
                    return Ok(Answer {
                        text,
                        tool_calls,
                        ended: *ended,
                    });
                }
                Event::Started(_)
                | Event::Progress(_)
                | Event::Reasoning(_)
                | Event::Arguments(_)
                | Event::ToolUpdate(_)
                | Event::ToolResult(_)
                | Event::Unknown(_) => {}
            }
        }
        Err(Error::Closed)
    }
}

impl Stream for ChatStream {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        stream.inbox.waker.register(context.waker()); // first, so that an event pushed during this poll wakes the task
        let mut contents = stream.inbox.contents();
        if let Some(event) = contents.events.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        if let Some(error) = contents.failure.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if contents.is_over {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

impl Drop for ChatStream {
    fn drop(&mut self) {
        let inbox = Arc::clone(&self.inbox);
        let cancel = self.cancels_when_dropped && !inbox.contents().is_over;
        // If the connection's task has ended, there is nothing left to cancel.
        let _ = self.client.put(Command::LetGo {
            stream_id: self.stream_id.clone(),
            inbox,
            cancel,
        });
    }
}

/// The events that were received and not read yet. Adjacent pieces of one kind are merged, so that a slow reader needs
/// no more memory than the text.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    contents: Mutex<Contents>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Contents {
    events: VecDeque<Event>,
    failure: Option<Error>,
    is_over: bool,
}

impl Inbox {
    pub(super) fn push(&self, event: Event) {
        let mut contents = self.contents();
        contents.is_over |= matches!(event, Event::Ended(_));
        match (contents.events.back_mut(), event) {
            (Some(Event::Content(text)), Event::Content(more))
            | (Some(Event::Reasoning(text)), Event::Reasoning(more)) => text.push_str(&more),
            (Some(Event::Arguments(piece)), Event::Arguments(more))
                if (&piece.call_id, &piece.name) == (&more.call_id, &more.name) =>
            {
                piece.arguments.push_str(&more.arguments);
            }
            (_, event) => contents.events.push_back(event),
        }
        drop(contents);
        self.waker.wake();
    }

    pub(super) fn fail(&self, error: Error) {
        let mut contents = self.contents();
        if !contents.is_over {
            contents.failure = Some(error);
            contents.is_over = true;
        }
        drop(contents);
        self.waker.wake();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_pieces_of_one_call_become_one() {
        let inbox = Inbox::default();
        for (call_id, arguments) in [("a", "{"), ("a", "}"), ("b", "{"), ("a", " ")] {
            inbox.push(Event::Arguments(ArgumentsDelta {
                call_id: call_id.into(),
                name: "x".into(),
                arguments: arguments.into(),
            }));
        }
        let kept: Vec<String> = inbox
            .contents()
            .events
            .iter()
            .map(|event| match event {
                Event::Arguments(piece) => format!("{} {}", piece.call_id, piece.arguments),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kept, ["a {}", "b {", "a  "]);
    }

    #[test]
    fn adjacent_pieces_of_one_kind_become_one() {
        let inbox = Inbox::default();
        for event in [
            Event::Reasoning("a".into()),
            Event::Content("b".into()),
            Event::Content("c".into()),
            Event::Reset,
            Event::Content("d".into()),
        ] {
            inbox.push(event);
        }
        let shown: Vec<String> = inbox
            .contents()
            .events
            .iter()
            .map(|event| format!("{event:?}"))
            .collect();
        assert_eq!(
            shown,
            [
                r#"Reasoning("a")"#,
                r#"Content("bc")"#,
                "Reset",
                r#"Content("d")"#
            ]
        );
    }
}
