//! One stream as its reader sees it: events, in order, until the last.

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

/// What a delta has beside its text.
const BARE_DELTA: [&str; 4] = ["stream_id", "from", "seq", "reset"];

/// What happens in a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The provider answered.
    Started(StreamStarted),
    /// What happens before the first text: it waits in a queue, a model is loaded, another attempt is made.
    Progress(StreamProgress),
    /// A piece of the answer.
    Content(String),
    /// A piece of the model's visible reasoning.
    Reasoning(String),
    /// A piece of a call's arguments, as the model writes them: to be shown. What is to be run is a `ToolCall`.
    Arguments(ArgumentsDelta),
    /// A call is complete. It runs where the stream was given [`Tools`](super::Tools) that have it; without
    /// `on_tool_call: wait` the stream ends now: run it, and send its result with the next request.
    ToolCall(StreamToolCall),
    /// An open call has moved.
    ToolUpdate(StreamToolUpdate),
    /// A call has its result.
    ToolResult(StreamToolResult),
    /// All have: the model is asked again, and another answer begins.
    Step(StreamStep),
    /// The server no longer has the beginning: discard the text and the calls you have.
    Reset,
    /// What these types do not know: an event of a newer server, or text of another kind.
    Unknown(UnknownEvent),
    /// The end, always last.
    Ended(Box<StreamEnded>),
}

impl Event {
    /// What a reader is told of a notification that has a number, of which `frame` is all; None where there is
    /// nothing in it.
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
    /// Which call.
    pub call_id: String,
    /// Which tool.
    pub name: String,
    /// The piece: JSON text, whole only with the others.
    pub arguments: String,
}

/// An answer that has ended: the last one, where the stream waited for tools.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// The calls to be run, in order.
    pub tool_calls: Vec<StreamToolCall>,
    /// How it ended.
    pub ended: StreamEnded,
}

impl Answer {
    /// The answer as the next request has it in its messages, before the results of its calls.
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

/// A delta whose text the types have no place for, as it came.
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

/// An event that these types do not know, as it came.
#[derive(Clone, Debug)]
pub struct UnknownEvent {
    /// The notification's name.
    pub method: String,
    /// Its number in the stream's log; of several in one, the last.
    pub seq: u64,
    /// All that it says.
    pub params: Value,
}

/// A running stream: read it with [`StreamExt::next`], to its end or to an error that says why there is none.
///
/// Dropping it before its end cancels it on the server, and with it the provider; [`detach`](Self::detach) lets go
/// without that.
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

    /// Its id: with it the stream can be cancelled or resumed from any connection.
    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    /// Who answers, as soon as it is accepted; a resumed stream tells it in [`Event::Started`].
    pub fn route(&self) -> Option<(&str, &str)> {
        Some((self.provider.as_deref()?, self.model.as_deref()?))
    }

    /// Stop the generation. The end still comes as [`Event::Ended`], with what came until then kept.
    pub async fn cancel(&self) -> Result<CancelResult, Error> {
        self.client
            .call(StreamCancelParams::new(&self.stream_id))
            .await
    }

    /// Let go without cancelling; the stream goes on, and [`Client::resume`] finds it again.
    pub fn detach(mut self) {
        self.cancels_when_dropped = false;
    }

    /// Read to the end: the text of the answer, and how it ended.
    pub async fn finish(self) -> Result<(String, StreamEnded), Error> {
        let answer = self.answer().await?;
        Ok((answer.text, answer.ended))
    }

    /// Read to the end: the answer with its calls.
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
        stream.inbox.waker.register(context.waker()); // before looking: what comes in between wakes us
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
        // Where nobody receives it any more, there is nothing left to cancel either.
        let _ = self.client.put(Command::LetGo {
            stream_id: self.stream_id.clone(),
            inbox,
            cancel,
        });
    }
}

/// What has come and is not read yet. Adjacent pieces of one kind are one, so that a slow reader costs the text alone.
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
