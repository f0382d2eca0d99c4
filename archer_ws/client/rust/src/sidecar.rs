//! A sidecar that this program starts, and that ends with it, however it ends.
//!
//! ```no_run
//! use archer_ws::Client;
//! use archer_ws::sidecar::{Sidecar, command};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut program = command("archer-ws");
//! program.env("ARCHER_DATA_DIR", "/home/ada/.local/share/my-app"); // any setting of the server
//! let sidecar = Sidecar::start(program).await?;
//! let client = Client::connect(sidecar.config()).await?;
//! # Ok(())
//! # }
//! ```

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::{fmt, io};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Config;

/// 256 bits: nobody guesses it.
const TOKEN_BYTES: usize = 32;

/// A running sidecar, on a free port of this machine, which accepts only requests with its own token.
///
/// Dropping it stops the sidecar, as does the end of this program: at once if nothing runs, and otherwise when the
/// running streams have ended, or after its setting `DRAIN_S`.
pub struct Sidecar {
    ready: Ready,
    token: String,
    process: Child,
    /// The sidecar stops when this ends.
    input: ChildStdin,
    /// Kept open: a closed one is an error for whoever writes to it.
    _output: BufReader<ChildStdout>,
}

/// What a sidecar says once it is ready.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Ready {
    /// Its address, such as `http://127.0.0.1:49152`.
    pub url: String,
    /// The provider for requests that name none.
    pub provider: String,
    /// Its model.
    pub model: String,
    /// Whether that provider can answer now.
    pub provider_ready: bool,
    /// Why it can't, and what to do.
    pub reason: Option<String>,
}

/// Why there is no sidecar.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The program could not be started: usually it is not there.
    NotStarted(io::Error),
    /// It ended before it was ready. Its standard error says why: that of this program, unless the command has
    /// another one.
    Ended(ExitStatus),
    /// It printed something else than archer-ws does.
    Unreadable(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "the sidecar can't be started: {error}"),
            Self::Ended(status) => write!(
                f,
                "the sidecar ended before it was ready ({status}): its standard error says why"
            ),
            Self::Unreadable(line) => write!(f, "this is not archer-ws: it printed {line:?}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotStarted(error) => Some(error),
            _ => None,
        }
    }
}

/// The command that starts this program, `archer-ws`, as a sidecar. Add settings as environment variables
/// (`archer_ws/CONFIGURATION.md` of the repository), options of `archer-ws serve`, or a file for its standard error,
/// which has its log.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
    command.args(["--ready-json", "--exit-with-parent"]);
    command
}

impl Sidecar {
    /// Start a sidecar, and wait until it is ready. That may take as long as its model takes to load, or to be
    /// fetched; if this future is dropped meanwhile, the sidecar ends.
    ///
    /// `command` is one of [`command`], with what was added to it.
    pub async fn start(mut command: Command) -> Result<Self, StartError> {
        let token = new_token().map_err(StartError::NotStarted)?;
        command.env("ARCHER_AUTH_TOKEN", &token);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(StartError::NotStarted)?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            unreachable!("both are piped")
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output
            .read_line(&mut line)
            .await
            .map_err(StartError::NotStarted)?;
        if line.is_empty() {
            let status = process.wait().await.map_err(StartError::NotStarted)?;
            return Err(StartError::Ended(status));
        }
        let ready =
            serde_json::from_str(&line).map_err(|_| StartError::Unreadable(line.trim().into()))?;
        Ok(Self {
            ready,
            token,
            process,
            input,
            _output: output,
        })
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Its address, such as `http://127.0.0.1:49152`: for HTTP, and for clients in other languages.
    pub fn url(&self) -> &str {
        &self.ready.url
    }

    /// The token that its clients must send. It was made for this sidecar, and dies with it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What [`Client::connect`](crate::Client::connect) takes.
    pub fn config(&self) -> Config {
        Config {
            token: Some(self.token.clone()),
            ..Config::new(format!(
                "{}/api/v1/ws",
                self.ready.url.replacen("http", "ws", 1)
            ))
        }
    }

    /// Wait until it has ended by itself, which it does only if it is killed or crashes. Start another one then.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Stop it, and wait until it has ended: running streams may go on for its setting `DRAIN_S`.
    pub async fn stop(self) -> io::Result<ExitStatus> {
        let Self {
            mut process, input, ..
        } = self;
        drop(input);
        process.wait().await
    }
}

impl fmt::Debug for Sidecar {
    /// Everything but the token, which must not get into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sidecar")
            .field("ready", &self.ready)
            .field("process", &self.process.id())
            .finish_non_exhaustive()
    }
}

fn new_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
