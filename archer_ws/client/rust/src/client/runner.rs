//! Running the calls that a stream waits for: approval, claim, run, result (protocol section 23).
//!
//! A task for each stream with [`Tools`]. The [`Feed`] tells it what happens; whenever something has, all calls are
//! looked at, and what each needs is done. The ledger repeats requests that a loss left without a response.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::stream::Event;
use super::tools::{Approval, Runnable, ToolContext, ToolError, Tools};
use super::{Client, Error};
use crate::types::{
    CallRunner, CallState, Content, GivenStatus, Method, StreamToolCall, ToolApproveParams,
    ToolClaimParams, ToolOutcome, ToolOutcomeKind, ToolResultParams,
};

/// Where the server does not say when to come again.
const RETRY: Duration = Duration::from_secs(1);
/// How long it may take to say that what was claimed does not run any more.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// The largest frame that every server takes (protocol section 2), and some room for what stands around a result.
const RESULT_BYTES_MAX: usize = 1024 * 1024 - 4096;

/// What a runner is told; that the channel closes before the end tells that the stream was let go of.
#[derive(Debug)]
enum Happening {
    /// The stream's events come over another connection.
    Attached,
    /// All that had happened until it was attached has been told.
    Current,
    /// An event that is about calls, or takes back what was told.
    Told(Event),
    Ended,
}

/// What tells a runner of its stream.
#[derive(Debug)]
pub(super) struct Feed {
    happenings: mpsc::UnboundedSender<Happening>,
    head_seq: u64,
    is_current: bool,
}

impl Feed {
    /// The server accepted a subscription: there are events up to `head_seq`, and those up to `last_seq` were told.
    pub(super) fn attached(&mut self, head_seq: u64, last_seq: u64) {
        self.head_seq = head_seq;
        self.is_current = false;
        self.say(Happening::Attached);
        self.passed(last_seq);
    }

    pub(super) fn told(&mut self, event: &Event) {
        match event {
            Event::Reset => {
                self.is_current = false;
                self.say(Happening::Told(Event::Reset));
            }
            Event::ToolCall(_) | Event::ToolUpdate(_) | Event::ToolResult(_) => {
                self.say(Happening::Told(event.clone()))
            }
            Event::Ended(_) => self.say(Happening::Ended),
            _ => {}
        }
    }

    /// The events up to this one were told.
    pub(super) fn passed(&mut self, last_seq: u64) {
        if !self.is_current && last_seq >= self.head_seq {
            self.is_current = true;
            self.say(Happening::Current);
        }
    }

    fn say(&self, happening: Happening) {
        let _ = self.happenings.send(happening); // a runner ends by itself with its runtime alone
    }
}

/// Have the calls of a stream run, for as long as the feed is kept.
pub(super) fn start(client: Client, stream_id: String, tools: Tools) -> Feed {
    let (happenings, received) = mpsc::unbounded_channel();
    let runner = Runner {
        client,
        stream_id,
        tools,
        is_current: false,
        calls: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    tokio::spawn(runner.run(received));
    Feed {
        happenings,
        head_seq: 0,
        is_current: false,
    }
}

#[derive(Debug, PartialEq)]
enum Standing {
    /// It was taken back with all else, and may be told again.
    TakenBack,
    NeedsApproval,
    Pending,
    Running,
    Settled,
}

struct Call {
    told: StreamToolCall,
    standing: Standing,
    run: Option<Run>,
    question: Option<AbortHandle>,
}

struct Run {
    claim: String,
    task: AbortHandle,
    /// Another client's claim holds the call, and that it does is still to be told by an event.
    is_taken: bool,
}

/// How a task came out.
enum Finish {
    /// Nothing more is to be done.
    Over,
    /// Another client runs the call.
    Taken,
}

struct Runner {
    client: Client,
    stream_id: String,
    tools: Tools,
    is_current: bool,
    calls: BTreeMap<String, Call>,
    tasks: JoinSet<(String, Finish)>,
}

impl Runner {
    async fn run(mut self, mut happenings: mpsc::UnboundedReceiver<Happening>) {
        loop {
            tokio::select! {
                happening = happenings.recv() => match happening {
                    Some(Happening::Ended) => return, // which drops the tasks
                    Some(happening) => self.note(happening),
                    None => return self.leave().await,
                },
                // A task that was aborted has nothing to say.
                Some(Ok((call_id, outcome))) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Finish::Taken = outcome {
                        self.taken(&call_id);
                    }
                }
            }
            if self.is_current {
                self.look();
            }
        }
    }

    fn note(&mut self, happening: Happening) {
        match happening {
            Happening::Attached => {
                self.is_current = false;
                self.hold();
            }
            Happening::Current => self.is_current = true,
            Happening::Told(Event::Reset) => {
                self.is_current = false;
                for call in self.calls.values_mut() {
                    call.standing = Standing::TakenBack;
                }
            }
            Happening::Told(Event::ToolCall(told)) => {
                let standing = match told.needs_approval {
                    Some(true) => Standing::NeedsApproval,
                    _ => Standing::Pending,
                };
                let call = self.calls.entry(told.call_id.clone()).or_insert(Call {
                    told,
                    standing: Standing::TakenBack,
                    run: None,
                    question: None,
                });
                call.standing = standing;
            }
            Happening::Told(Event::ToolUpdate(told)) => {
                if let Some(call) = self.calls.get_mut(&told.call_id) {
                    call.standing = match told.state {
                        CallState::Pending => Standing::Pending,
                        _ => Standing::Running,
                    };
                }
            }
            Happening::Told(Event::ToolResult(told)) => {
                if let Some(call) = self.calls.get_mut(&told.call_id) {
                    call.standing = Standing::Settled;
                }
            }
            Happening::Told(_) | Happening::Ended => {}
        }
    }

    /// Begin what is to be begun, and end what is settled.
    fn look(&mut self) {
        for call in self.calls.values_mut() {
            let handler = (call.told.by == CallRunner::Client && call.told.deadline_at.is_some())
                .then(|| self.tools.handler(&call.told.name))
                .flatten();
            match call.standing {
                Standing::TakenBack => {}
                Standing::NeedsApproval => {
                    let is_ours = handler.is_some() || call.told.by != CallRunner::Client;
                    if call.question.is_none()
                        && is_ours
                        && let Some(said) = self.tools.ask(&call.told)
                    {
                        let asking = ask(self.client.clone(), call.told.clone(), said);
                        call.question = Some(self.tasks.spawn(asking));
                    }
                }
                Standing::Pending => {
                    abort(call.question.as_ref());
                    if let (None, Some(handler)) = (&call.run, handler) {
                        let claim = new_claim();
                        let running = run(
                            self.client.clone(),
                            call.told.clone(),
                            claim.clone(),
                            handler,
                        );
                        call.run = Some(Run {
                            claim,
                            task: self.tasks.spawn(running),
                            is_taken: false,
                        });
                    }
                }
                // Should another's claim lapse, and the call be open again, it is tried anew.
                Standing::Running => drop(call.run.take_if(|run| run.is_taken)),
                Standing::Settled => {
                    abort(call.question.as_ref());
                    abort(call.run.as_ref().map(|run| &run.task));
                }
            }
        }
    }

    /// Hold the claims over this connection, too.
    fn hold(&mut self) {
        for (call_id, call) in &self.calls {
            let Some(run) = call.run.as_ref().filter(|run| !run.task.is_finished()) else {
                continue;
            };
            let params = ToolClaimParams::new(&self.stream_id, call_id, &run.claim);
            let (client, call_id) = (self.client.clone(), call_id.clone());
            self.tasks.spawn(async move {
                match say(&client, params).await.map(|told| told.outcome) {
                    Ok(ToolOutcomeKind::Taken) => (call_id, Finish::Taken),
                    _ => (call_id, Finish::Over), // what else there is, events tell
                }
            });
        }
    }

    fn taken(&mut self, call_id: &str) {
        if let Some(call) = self.calls.get_mut(call_id)
            && let Some(run) = &mut call.run
        {
            run.task.abort();
            run.is_taken = true;
        }
    }

    /// Nobody here follows the stream any more: as the claims keep others off, it is said that nothing comes of them.
    async fn leave(mut self) {
        let claimed: Vec<ToolResultParams> = self
            .calls
            .values()
            .filter_map(|call| {
                let run = call.run.as_ref()?;
                let is_open = !run.is_taken && !run.task.is_finished();
                (is_open && call.standing != Standing::Settled)
                    .then(|| result_of(&call.told, &run.claim, Err("the stream was left".into())))
            })
            .collect();
        self.tasks.abort_all();
        let client = &self.client;
        let told = join_all(claimed.into_iter().map(|params| client.call(params)));
        let _ = timeout(LEAVE_LIMIT, told).await;
    }
}

fn abort(task: Option<&AbortHandle>) {
    if let Some(task) = task {
        task.abort();
    }
}

async fn ask(
    client: Client,
    call: StreamToolCall,
    said: impl Future<Output = Approval>,
) -> (String, Finish) {
    let approval = AssertUnwindSafe(said)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Approval::Denied(Some("nobody could be asked".into())));
    let (approved, reason) = match approval {
        Approval::Approved => (true, None),
        Approval::Denied(reason) => (false, reason),
    };
    let params = ToolApproveParams {
        reason,
        ..ToolApproveParams::new(approved, &call.stream_id, &call.call_id)
    };
    let _ = say(&client, params).await; // an event tells what came of it
    (call.call_id, Finish::Over)
}

async fn run(
    client: Client,
    call: StreamToolCall,
    claim: String,
    handler: Arc<dyn Runnable>,
) -> (String, Finish) {
    let claiming = ToolClaimParams::new(&call.stream_id, &call.call_id, &claim);
    match say(&client, claiming).await.map(|told| told.outcome) {
        Ok(ToolOutcomeKind::Claimed) => {}
        Ok(ToolOutcomeKind::Taken) => return (call.call_id, Finish::Taken),
        _ => return (call.call_id, Finish::Over),
    }
    let given = AssertUnwindSafe(give(&call, handler.as_ref()))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err("the tool panicked".into()));
    let params = result_of(&call, &claim, given);
    let refused = match serde_json::to_string(&params) {
        Ok(text) if text.len() > RESULT_BYTES_MAX => Some("it is too large".into()),
        _ => match say(&client, params).await {
            Err(Error::Refused(info)) => Some(info.message),
            _ => None,
        },
    };
    if let Some(why) = refused {
        let why = format!("its result could not be sent: {why}");
        let _ = say(&client, result_of(&call, &claim, Err(why.into()))).await;
    }
    (call.call_id, Finish::Over)
}

async fn give(call: &StreamToolCall, handler: &dyn Runnable) -> Result<Content, ToolError> {
    let context = ToolContext {
        stream_id: call.stream_id.clone(),
        call_id: call.call_id.clone(),
    };
    handler
        .start(serde_json::from_str(&call.arguments)?, context)
        .await
}

fn result_of(
    call: &StreamToolCall,
    claim: &str,
    given: Result<Content, ToolError>,
) -> ToolResultParams {
    let (content, status) = match given {
        Ok(content) => (content, GivenStatus::Ok),
        Err(error) => (error.to_string().into(), GivenStatus::Error),
    };
    ToolResultParams {
        status: Some(status),
        claim: Some(claim.to_owned()),
        ..ToolResultParams::new(content, &call.stream_id, &call.call_id)
    }
}

/// Say it, again where the server can't take it now.
async fn say<M: Method<Result = ToolOutcome> + Clone>(
    client: &Client,
    params: M,
) -> Result<ToolOutcome, Error> {
    loop {
        match client.call(params.clone()).await {
            Err(Error::Refused(info)) if info.retryable => {
                sleep(info.retry_after_ms.map_or(RETRY, Duration::from_millis)).await;
            }
            settled => return settled,
        }
    }
}

fn new_claim() -> String {
    super::new_id("claim-")
}
