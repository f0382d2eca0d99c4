//! [`Client`] and its parts. `connection` is the task that owns the socket, `ledger` matches responses and events to
//! requests and streams, `requests` sends requests in their order, `losses` counts lost connections, `attached` is a
//! stream as the ledger sees it, `stream` as its reader sees it, and `tools` and `runner` run tool calls.

mod attached;
mod backoff;
mod connection;
mod error;
mod ledger;
mod losses;
mod requests;
mod runner;
mod stream;
mod tools;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::types::{
    ChatSendParams, ChatSendResult, ErrorInfo, ErrorKind, Method, Request, StreamSubscribeParams,
    SubscribeResult,
};
use attached::Attached;
use connection::Connection;
use ledger::Command;
use stream::Inbox;

pub use error::Error;
pub use stream::{Answer, ArgumentsDelta, ChatStream, Event, UnknownEvent};
pub use tools::{Approval, ToolContext, ToolError, ToolHandler, Tools};

/// The server's address, the credential, and the limits of connecting.
#[derive(Clone)]
pub struct Config {
    /// The socket's address, such as `ws://127.0.0.1:8000/api/v1/ws`.
    pub url: String,
    /// The credential, if the server needs one.
    pub token: Option<String>,
    /// How long dialling and `initialize` may take together.
    pub connect_timeout: Duration,
    /// The upper limit of the first pause between two attempts; the limit doubles with each attempt.
    pub backoff_min: Duration,
    /// The limit up to which it doubles.
    pub backoff_max: Duration,
    /// How long the connection may be lost each time before the response to the same request, at least five times in a
    /// row. Then the request fails with [`Error::Unanswered`].
    pub give_up_after: Duration,
}

impl Config {
    /// The server at this address, without a credential.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            connect_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500), // this and the next: protocol section 11
            backoff_max: Duration::from_secs(20),
            give_up_after: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for Config {
    /// Everything but the token, which must not get into logs.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Config")
            .field("url", &self.url)
            .field("token", &hidden(&self.token))
            .field("connect_timeout", &self.connect_timeout)
            .field("backoff_min", &self.backoff_min)
            .field("backoff_max", &self.backoff_max)
            .field("give_up_after", &self.give_up_after)
            .finish()
    }
}

/// What a `Debug` output shows in place of a token.
pub(crate) fn hidden(token: &Option<String>) -> Option<&'static str> {
    token.as_ref().map(|_| "hidden")
}

/// A connection to one server. Clones share it; it closes when the last clone and the last stream are dropped.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    ids: Ids,
}

/// The request ids of one client, never used twice, and the limit of a request's size.
#[derive(Clone, Debug)]
struct Ids {
    next: Arc<AtomicI64>,
    frame_bytes_max: Arc<AtomicU64>,
}

impl Ids {
    fn new() -> Self {
        Self {
            next: Arc::default(),
            frame_bytes_max: Arc::new(AtomicU64::new(u64::MAX)), // until the server has sent its own
        }
    }

    /// The server reads frames of up to so many bytes.
    fn limit_frames(&self, bytes: u64) {
        self.frame_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Serialize a request with a new id; an error if it is too large: the server would close the connection, which
    /// carries all other streams.
    fn request<M: Method>(&self, params: M) -> Result<Numbered, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let text = serde_json::to_string(&Request::new(id, params))?;
        let max = self.frame_bytes_max.load(Ordering::Relaxed);
        if text.len() as u64 > max {
            return Err(too_large(max));
        }
        Ok(Numbered {
            id,
            method: M::NAME,
            text,
        })
    }
}

fn too_large(max: u64) -> Error {
    Error::Refused(Box::new(ErrorInfo {
        kind: ErrorKind::ContentTooLarge,
        message: format!("the request is larger than the {max} bytes that the server takes"),
        hint: Some("Send less text, or send it over REST.".into()),
        retryable: false,
        retry_after_ms: None,
        request_id: String::new(),
        stream_id: None,
        provider: None,
        errors: None,
    }))
}

#[derive(Debug)]
struct Numbered {
    id: i64,
    method: &'static str,
    text: String,
}

impl Client {
    /// Connect. Returns an error if the server can't be reached or refuses; after later losses the client reconnects.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let (commands, received) = mpsc::unbounded_channel();
        let (connected, first) = oneshot::channel();
        let ids = Ids::new();
        tokio::spawn(Connection::new(config, ids.clone(), received).run(connected));
        first.await.unwrap_or(Err(Error::Closed))?;
        Ok(Self { commands, ids })
    }

    /// Call a method. The type of the params determines the method's name and the type of its result.
    ///
    /// After a loss of the connection the request is sent again, unless this future was dropped: every method may be
    /// repeated without harm, except `session/create` without a `session_id` of your own. If the connection is lost again
    /// and again before the response, it fails with [`Error::Unanswered`].
    pub async fn call<M: Method>(&self, params: M) -> Result<M::Result, Error> {
        let (reply, response) = oneshot::channel();
        self.put(Command::Call {
            request: self.ids.request(params)?,
            reply,
        })?;
        result_of(response).await
    }

    /// Start a stream. A request without a `stream_id` gets a new one. With this id, repeating the request after a loss
    /// joins the stream that may have begun, instead of starting another. [`Error::Unanswered`]: the connection was lost
    /// each time, and the server has no such stream, or it can't be asked for that either.
    pub async fn send(&self, params: ChatSendParams) -> Result<ChatStream, Error> {
        self.send_with(params, Tools::new()).await
    }

    /// Like [`send`](Self::send), with tools: they are added to the request, and their calls run here while the stream
    /// waits. Each call is claimed right before it runs. So only one of several clients runs it, and a lost connection
    /// does not make it run twice.
    pub async fn send_with(
        &self,
        mut params: ChatSendParams,
        tools: Tools,
    ) -> Result<ChatStream, Error> {
        let stream_id = params
            .stream_id
            .get_or_insert_with(|| new_id("rs-"))
            .clone();
        tools.offer(&mut params);
        let (stream, response) = self.open(stream_id, params, 0, tools)?;
        match result_of::<Accepted>(response).await {
            Ok(Accepted::Chat(it)) => Ok(stream.accepted(it.provider, it.model)),
            Ok(Accepted::Subscription(SubscribeResult { .. })) => Ok(stream),
            Err(error) => {
                // A cancel would be kept for the request that comes next with this id, or end another one's stream.
                if matches!(error, Error::Refused(_) | Error::Unanswered { .. }) {
                    stream.detach();
                }
                Err(error)
            }
        }
    }

    /// Read a stream that runs or has ended, from the event after `after` (0: from the start). Any client may have
    /// started it.
    pub async fn resume(&self, stream_id: &str, after: u64) -> Result<ChatStream, Error> {
        self.resume_with(stream_id, after, Tools::new()).await
    }

    /// Like [`resume`](Self::resume), with tools: open calls after `after` run here, unless another client runs them.
    pub async fn resume_with(
        &self,
        stream_id: &str,
        after: u64,
        tools: Tools,
    ) -> Result<ChatStream, Error> {
        let params = StreamSubscribeParams {
            after,
            ..StreamSubscribeParams::new(stream_id)
        };
        let (stream, response) = self.open(stream_id.to_owned(), params, after, tools)?;
        // Until it is delivered, giving up must not end what another client may have started.
        let stream = stream.cancelled_when_dropped(false);
        response.await.unwrap_or(Err(Error::Closed))?;
        Ok(stream.cancelled_when_dropped(true))
    }

    fn open<M: Method>(
        &self,
        stream_id: String,
        params: M,
        after: u64,
        tools: Tools,
    ) -> Result<(ChatStream, PendingResponse), Error> {
        let (reply, response) = oneshot::channel();
        let inbox = Arc::new(Inbox::default());
        let request = self.ids.request(params)?;
        let stream = ChatStream::new(stream_id.clone(), Arc::clone(&inbox), self.clone());
        let feed =
            (!tools.is_empty()).then(|| runner::start(self.clone(), stream_id.clone(), tools));
        self.put(Command::Open {
            request,
            reply,
            stream_id,
            attached: Attached::new(after, inbox, feed),
        })?;
        Ok((stream, response))
    }

    fn put(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| Error::Closed)
    }
}

/// What attached a new stream: its request, or a subscription after the request got no response.
#[derive(Deserialize)]
#[serde(untagged)]
enum Accepted {
    Chat(ChatSendResult),
    Subscription(SubscribeResult),
}

type PendingResponse = oneshot::Receiver<Result<serde_json::Value, Error>>;

async fn result_of<T: DeserializeOwned>(response: PendingResponse) -> Result<T, Error> {
    let value = response.await.unwrap_or(Err(Error::Closed))?;
    Ok(serde_json::from_value(value)?)
}

fn new_id(prefix: &str) -> String {
    let mut id = String::from(prefix);
    id.extend(std::iter::repeat_with(fastrand::alphanumeric).take(22)); // 131 bits
    id
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_config_that_is_logged_does_not_tell_the_token() {
        let mut config = Config::new("ws://127.0.0.1:8000/api/v1/ws");
        assert!(format!("{config:?}").contains("token: None"));
        config.token = Some("s3cret".to_owned());
        let told = format!("{config:?}");
        assert!(
            told.contains("token: Some(") && !told.contains("s3cret"),
            "{told}"
        );
    }
}
