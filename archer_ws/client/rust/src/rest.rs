//! The same streams over HTTP: as one response or as server-sent events, with cancelling and resuming.

use std::fmt;
use std::net::IpAddr;

use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::client::hidden;
use crate::types::{
    CancelResult, ChatRequest, ChatResponse, EndedEvent, ErrorBody, ErrorInfo, TextEvent,
    ToolCallEvent,
};

/// A sidecar's address and credential.
#[derive(Clone)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl fmt::Debug for Rest {
    /// Everything but the token, which must not get into logs.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Rest")
            .field("base", &self.base)
            .field("token", &hidden(&self.token))
            .finish_non_exhaustive()
    }
}

/// A server-sent event of a stream. [`Rest::events`] resumes after its `id`, the event's number. The events of a
/// [`ChatStream`](crate::ChatStream) over the WebSocket are the type [`crate::Event`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A piece of the content, of the reasoning, or of a call's arguments.
    Text { id: u64, text: TextEvent },
    /// A complete tool call: run it.
    ToolCall { id: u64, call: ToolCallEvent },
    /// The last event. If the events end without it, the connection was lost: resume the stream.
    Ended { id: u64, ended: EndedEvent },
    /// Any other event, known to this client or not, unchanged. Resume after its id like after any other's.
    Other { id: u64, name: String, data: String },
}

impl Event {
    /// The event's number, to resume after it.
    pub fn id(&self) -> u64 {
        match self {
            Self::Text { id, .. }
            | Self::ToolCall { id, .. }
            | Self::Ended { id, .. }
            | Self::Other { id, .. } => *id,
        }
    }
}

/// Why a request failed.
#[derive(Debug)]
pub enum Error {
    /// The response is an error: `kind` says which one, `hint` what to do.
    Refused(StatusCode, Box<ErrorInfo>),
    /// There is no response, or it does not come from an Archer server.
    Http(reqwest::Error),
    /// An event that does not follow the protocol.
    Event(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status, info) => write!(f, "{status}: {info}"),
            Self::Http(error) => error.fmt(f),
            Self::Event(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}

impl Rest {
    /// A client of the sidecar at this address, such as `http://127.0.0.1:8000`; a slash at its end is ignored. A proxy
    /// that the environment names is not used for this machine's own addresses, which it could not reach.
    pub fn new(base: impl Into<String>, token: Option<String>) -> Self {
        let base = base.into();
        let mut http = reqwest::Client::builder();
        if is_local(&base) {
            http = http.no_proxy();
        }
        Self {
            // As in `reqwest::Client::new`, which panics without a backend for TLS, too.
            http: http.build().expect("a client that TLS lets be made"),
            base: base.trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// Send a chat and wait for its [`ChatResponse`]. A failed stream is an error, even if it has some text.
    pub async fn chat(&self, request: &ChatRequest) -> Result<ChatResponse, Error> {
        self.json(self.http.post(self.url("chat/completions")).json(request))
            .await
    }

    /// Send a chat and read its events. Dropping them cancels the stream, unless `on_disconnect` is `continue`.
    pub async fn stream(
        &self,
        request: &ChatRequest,
    ) -> Result<impl Stream<Item = Result<Event, Error>>, Error> {
        let response = self
            .send(
                self.http
                    .post(self.url("chat/completions/stream"))
                    .json(request),
            )
            .await?;
        Ok(events_of(response))
    }

    /// A stream's events after the event `after`: resumes after a lost connection, or reads the stream again.
    pub async fn events(
        &self,
        stream_id: &str,
        after: u64,
    ) -> Result<impl Stream<Item = Result<Event, Error>>, Error> {
        let request = self
            .http
            .get(self.url(&format!("streams/{stream_id}/events?after={after}")));
        Ok(events_of(self.send(request).await?))
    }

    /// Cancel a stream, also one that other clients read.
    pub async fn cancel(&self, stream_id: &str) -> Result<CancelResult, Error> {
        self.json(self.http.delete(self.url(&format!("streams/{stream_id}"))))
            .await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        Ok(self.send(request).await?.json().await?)
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, Error> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A proxy's own response is not an error in our form: of that, the status is told.
        let stranger = response.error_for_status_ref().err();
        match response.json::<ErrorBody>().await {
            Ok(body) => Err(Error::Refused(status, Box::new(body.error))),
            Err(error) => Err(Error::Http(stranger.unwrap_or(error))),
        }
    }
}

fn is_local(base: &str) -> bool {
    let url = reqwest::Url::parse(base).ok();
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or("");
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn events_of(response: Response) -> impl Stream<Item = Result<Event, Error>> {
    response
        .bytes_stream()
        .eventsource()
        .filter_map(async |event| match event {
            Ok(event) if event.data == "[DONE]" => None,
            Ok(event) => Some(event_of(&event).map_err(|error| Error::Event(error.to_string()))),
            Err(error) => Some(Err(Error::Event(error.to_string()))),
        })
}

fn event_of(event: &eventsource_stream::Event) -> Result<Event, serde_json::Error> {
    let id = event.id.parse().unwrap_or_default();
    Ok(match event.event.as_str() {
        "" | "message" => Event::Text {
            id,
            text: serde_json::from_str(&event.data)?,
        },
        "tool_call" => Event::ToolCall {
            id,
            call: serde_json::from_str(&event.data)?,
        },
        "ended" => Event::Ended {
            id,
            ended: serde_json::from_str(&event.data)?,
        },
        name => Event::Other {
            id,
            name: name.to_owned(),
            data: event.data.clone(),
        },
    })
}
