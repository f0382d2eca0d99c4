//! The errors of a client, by what the caller can do about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_tungstenite::tungstenite;

use crate::types::{CallError, ErrorInfo};

/// The pause before a retry, if the server does not say how long it should be.
const RETRY: Duration = Duration::from_secs(1);

/// Why a call or a stream failed.
#[derive(Clone, Debug)]
pub enum Error {
    /// The response is an error: `kind` says which one, `hint` what to do.
    Refused(Box<ErrorInfo>),
    /// The server closed the socket; the code says whether to connect again.
    ClosedFor { code: u16, reason: String },
    /// The handshake failed with this HTTP status: the token (401) or the address is wrong.
    Handshake(u16),
    /// There is no server, or it accepts no connections now.
    Unreachable(Arc<tungstenite::Error>),
    /// Dialling or `initialize` took longer than `Config::connect_timeout`.
    TimedOut,
    /// For [`Config::give_up_after`](super::Config::give_up_after), each connection was lost after the request of this
    /// method and before its response, so many in a row. Whether the request had an effect is not known. Everything else
    /// goes on.
    Unanswered { method: &'static str, losses: u32 },
    /// A message does not follow archer.v1.
    Protocol(String),
    /// Another reader of this client took the stream over.
    Replaced,
    /// The client is closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(info) => info.fmt(f),
            Self::ClosedFor { code, reason } => {
                write!(f, "the server closed the connection: {code} {reason}")
            }
            Self::Handshake(401) => {
                f.write_str("the server needs a valid token: set Config::token")
            }
            Self::Handshake(404) => f.write_str(
                "there is no socket at this address (404): check its path; or a proxy before the server \
                 takes the Upgrade header out: set it up to pass WebSockets on",
            ),
            Self::Handshake(status) => {
                write!(f, "the handshake failed with the HTTP status {status}")
            }
            Self::Unreachable(error) => write!(f, "no connection to the server: {error}"),
            Self::TimedOut => f.write_str("the server sent no response in time"),
            Self::Unanswered { method, losses } => write!(
                f,
                "the connection was lost {losses} times before the response to {method} came"
            ),
            Self::Protocol(what) => write!(f, "a message does not follow archer.v1: {what}"),
            Self::Replaced => f.write_str("another reader took the stream over"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<ErrorInfo> for Error {
    fn from(info: ErrorInfo) -> Self {
        Self::Refused(Box::new(info))
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(error) => error.data.into(),
            CallError::Malformed(error) => error.into(),
        }
    }
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            // Of the response's body, the library has only what came with the head.
            tungstenite::Error::Http(response) => Self::Handshake(response.status().as_u16()),
            other => Self::Unreachable(Arc::new(other)),
        }
    }
}

impl Error {
    /// How long to wait before the same request may succeed; None if repeating it can't help.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(info) if info.retryable => {
                Some(info.retry_after_ms.map_or(RETRY, Duration::from_millis))
            }
            _ => None,
        }
    }

    /// Whether dialling again can help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut => true,
            // 503 and 429: the server, or a proxy before it, has no room at present.
            Self::Handshake(status) => *status >= 500 || *status == 429,
            Self::Refused(info) => info.retryable,
            Self::ClosedFor { code, .. } => may_reconnect(*code),
            Self::Unanswered { .. } | Self::Protocol(_) | Self::Replaced | Self::Closed => false,
        }
    }
}

/// Whether to connect again after this close code (protocol section 11).
fn may_reconnect(code: u16) -> bool {
    matches!(code, 1001 | 1005 | 1006 | 1011 | 1012 | 1013 | 4000..=4499)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_that_was_refused_for_the_moment_is_tried_again_and_no_other() {
        let passing = [400, 401, 403, 404, 429, 500, 502, 503]
            .into_iter()
            .filter(|status| Error::Handshake(*status).is_passing());
        assert_eq!(passing.collect::<Vec<_>>(), [429, 500, 502, 503]);
    }
}
