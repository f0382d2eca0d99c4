//! What a program calls: [`Client`], and the parts behind it. `connection` is the task that keeps the socket, `ledger`
//! what its frames mean, `stream` one stream as its reader sees it, `tools` and `runner` the calls that run here.

mod backoff;
mod connection;
mod error;
mod ledger;
mod runner;
mod stream;
mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::types::{ChatSendParams, ChatSendResult, Method, Request, StreamSubscribeParams};
use connection::Connection;
use ledger::{Attached, Command};
use stream::Inbox;

pub use error::Error;
pub use stream::{Answer, ArgumentsDelta, ChatStream, Event, UnknownEvent};
pub use tools::{Approval, ToolContext, ToolError, ToolHandler, Tools};

/// The server's address, the credential, and the limits of connecting.
#[derive(Clone, Debug)]
pub struct Config {
    /// The socket's address, such as `ws://127.0.0.1:8000/api/v1/ws`.
    pub url: String,
    /// The credential, where the server needs one.
    pub token: Option<String>,
    /// How long dialling and `initialize` may take together.
    pub connect_timeout: Duration,
    /// The longest first pause between two attempts; it doubles from one attempt to the next.
    pub backoff_min: Duration,
    /// The longest pause of all.
    pub backoff_max: Duration,
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
        }
    }
}

/// A connection to one server. Clones share it; it closes when the last clone and the last stream are dropped.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    ids: Ids,
}

/// The request ids of one client, never used twice.
#[derive(Clone, Debug, Default)]
struct Ids(Arc<AtomicI64>);

impl Ids {
    /// A request with an id of its own, as it goes over the socket.
    fn request<M: Method>(&self, params: M) -> Result<Numbered, Error> {
        let id = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Numbered {
            id,
            text: serde_json::to_string(&Request::new(id, params))?,
        })
    }
}

#[derive(Debug)]
struct Numbered {
    id: i64,
    text: String,
}

impl Client {
    /// Connect. A server that is not there, or refuses, is an error here; later losses are mended silently.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let (commands, received) = mpsc::unbounded_channel();
        let (connected, first) = oneshot::channel();
        let ids = Ids::default();
        tokio::spawn(Connection::new(config, ids.clone(), received).run(connected));
        first.await.unwrap_or(Err(Error::Closed))?;
        Ok(Self { commands, ids })
    }

    /// Call a method; its params know its name and result.
    ///
    /// After a loss of the connection the request is sent again: every method may be repeated without harm, except
    /// `session/create` without a `session_id` of your own.
    pub async fn call<M: Method>(&self, params: M) -> Result<M::Result, Error> {
        let (reply, response) = oneshot::channel();
        self.put(Command::Call {
            request: self.ids.request(params)?,
            reply,
        })?;
        result_of(response).await
    }

    /// Start a stream. Without a `stream_id` it gets one here: with it, sending again after a loss joins the stream
    /// that may have begun, instead of paying for another.
    pub async fn send(&self, params: ChatSendParams) -> Result<ChatStream, Error> {
        self.send_with(params, Tools::new()).await
    }

    /// The same with tools: they are offered, and calls of them run here while the stream waits. Each is claimed right
    /// before, so that of several clients one runs it, and no loss of the connection has it run twice.
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
        let accepted: ChatSendResult = result_of(response).await?;
        Ok(stream.accepted(accepted.provider, accepted.model))
    }

    /// Read a stream that runs or has ended, from the event after `after` (0: from the start), whoever started it.
    pub async fn resume(&self, stream_id: &str, after: u64) -> Result<ChatStream, Error> {
        self.resume_with(stream_id, after, Tools::new()).await
    }

    /// The same with tools: calls that are open, and stand behind `after`, run here unless somebody else runs them.
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
        response.await.unwrap_or(Err(Error::Closed))?;
        Ok(stream)
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
