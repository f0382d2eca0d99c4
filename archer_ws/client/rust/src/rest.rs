//! The same streams over HTTP: a whole answer, server-sent events, cancelling and resuming.

use std::fmt;

use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::types::{
    CancelResult, ChatRequest, ChatResponse, EndedEvent, ErrorBody, ErrorInfo, TextEvent,
    ToolCallEvent,
};

/// A sidecar's address, and how to show who is asking.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An event of a stream; `id` is its number, with which [`Rest::events`] goes on after it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A piece of the text, of the reasoning, or of a call's arguments.
    Text { id: u64, text: TextEvent },
    /// A call is complete: run it.
    ToolCall { id: u64, call: ToolCallEvent },
    /// The end: without it, the connection broke, and the stream can be resumed.
    Ended { id: u64, ended: EndedEvent },
    /// Any other event, known here or not, as it came. Its id counts like any other's.
    Other { id: u64, name: String, data: String },
}

impl Event {
    /// Its number: what to go on after, whatever the event is.
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
    /// The server's answer: `kind` says which, `hint` what to do.
    Refused(StatusCode, Box<ErrorInfo>),
    /// No answer, or none of ours.
    Http(reqwest::Error),
    /// What came is no event of ours.
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
    /// The sidecar at this address, such as `http://127.0.0.1:8000`.
    pub fn new(base: impl Into<String>, token: Option<String>) -> Self {
        Self {
            http: reqwest::Client::new(),
            base: base.into(),
            token,
        }
    }

    /// The whole answer. A failed one is an error, even where some text came.
    pub async fn chat(&self, request: &ChatRequest) -> Result<ChatResponse, Error> {
        self.json(self.http.post(self.url("chat/completions")).json(request))
            .await
    }

    /// The answer's events. Dropping them ends the generation, unless `on_disconnect` says `continue`.
    pub async fn stream(
        &self,
        request: &ChatRequest,
    ) -> Result<impl Stream<Item = Result<Event, Error>>, Error> {
        let answer = self
            .answer(
                self.http
                    .post(self.url("chat/completions/stream"))
                    .json(request),
            )
            .await?;
        Ok(events_of(answer))
    }

    /// A stream's events after the event `after`: resumes a broken connection, or reads it again.
    pub async fn events(
        &self,
        stream_id: &str,
        after: u64,
    ) -> Result<impl Stream<Item = Result<Event, Error>>, Error> {
        let request = self
            .http
            .get(self.url(&format!("streams/{stream_id}/events?after={after}")));
        Ok(events_of(self.answer(request).await?))
    }

    /// Cancel a stream, whoever reads it.
    pub async fn cancel(&self, stream_id: &str) -> Result<CancelResult, Error> {
        self.json(self.http.delete(self.url(&format!("streams/{stream_id}"))))
            .await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        Ok(self.answer(request).await?.json().await?)
    }

    async fn answer(&self, mut request: RequestBuilder) -> Result<Response, Error> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body: ErrorBody = answer.json().await?;
        Err(Error::Refused(status, Box::new(body.error)))
    }
}

fn events_of(answer: Response) -> impl Stream<Item = Result<Event, Error>> {
    answer
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
