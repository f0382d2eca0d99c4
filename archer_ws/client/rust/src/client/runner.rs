//! Running the calls that a stream waits for: approval, claim, run, result (protocol section 23).
//!
//! Each stream with [`Tools`] has a task. After each [`Happening`] from its [`Feed`], the task goes through all calls
//! and does the next thing that each one's state requires. The ledger repeats requests that a loss left without a
//! response.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How long it may take to send the error results of claimed calls, when the stream is dropped.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// The largest frame that every server accepts (protocol section 2), minus room for the fields around a result.
const RESULT_BYTES_MAX: usize = 1024 * 1024 - 4096;
/// The limit of a denial's reason, in characters: with a longer one the server would refuse the denial.
const REASON_CHARS_MAX: usize = 10_000;

/// What a runner receives. If the channel closes before `Ended`, the stream was dropped or detached.
#[derive(Debug)]
enum Happening {
    /// The stream was attached, on the first or a new connection.
    Attached,
    /// The replay is over: all events from before the attachment were delivered.
    Current,
    /// An event about a call, or a reset.
    Told(Event),
    Ended,
}

/// The channel through which the ledger reports a stream's events to its runner.
#[derive(Debug)]
pub(super) struct Feed {
    happenings: mpsc::UnboundedSender<Happening>,
    head_seq: u64,
    is_current: bool,
}

impl Feed {
    /// The server has attached the stream: it has events up to `head_seq`, and those up to `last_seq` were delivered.
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

    /// The events up to this one were delivered.
    pub(super) fn passed(&mut self, last_seq: u64) {
        if !self.is_current && last_seq >= self.head_seq {
            self.is_current = true;
            self.say(Happening::Current);
        }
    }

    fn say(&self, happening: Happening) {
        let _ = self.happenings.send(happening); // fails only while the runtime shuts down
    }
}

/// Start the task that runs a stream's calls, until the feed is dropped.
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
    /// A reset discarded the call; its event may come again.
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
    question: Option<Question>,
}

struct Run {
    claim: String,
    task: AbortHandle,
    /// Another client has claimed the call, but the event that says so has not arrived yet.
    is_taken: bool,
    /// Whether the server has accepted the claim.
    is_claimed: Arc<AtomicBool>,
    /// Whether the claim is being renewed, over as many connections as it takes; also if that has failed.
    is_renewing: bool,
}

/// A person was asked for approval.
struct Question {
    task: AbortHandle,
    /// Whether the person said no.
    is_denied: Arc<AtomicBool>,
}

/// The result of a task.
enum Finish {
    /// There is nothing more to do.
    Over,
    /// The claim is renewed, or there is nothing to renew.
    Renewed,
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
                // The result of an aborted task is ignored.
                Some(Ok((call_id, outcome))) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    match outcome {
                        Finish::Taken => self.taken(&call_id),
                        Finish::Renewed => self.renewed(&call_id),
                        Finish::Over => {}
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

    /// Go through the calls: ask for approvals and start runs that are due, and abort those of settled calls.
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
                        let is_denied = Arc::new(AtomicBool::new(false));
                        let denied = Arc::clone(&is_denied);
                        let asking = ask(self.client.clone(), call.told.clone(), said, denied);
                        let task = self.tasks.spawn(asking);
                        call.question = Some(Question { task, is_denied });
                    }
                }
                // Another client's approval came first; but who was asked here said no.
                Standing::Pending if is_denied(call.question.as_ref()) => {}
                Standing::Pending => {
                    abort(call.question.as_ref().map(|question| &question.task));
                    if let (None, Some(handler)) = (&call.run, handler) {
                        let (claim, is_claimed) = (new_claim(), Arc::default());
                        let running = run(
                            self.client.clone(),
                            call.told.clone(),
                            claim.clone(),
                            Arc::clone(&is_claimed),
                            handler,
                        );
                        call.run = Some(Run {
                            claim,
                            task: self.tasks.spawn(running),
                            is_taken: false,
                            is_claimed,
                            is_renewing: false,
                        });
                    }
                }
                // If the other client's claim lapses, the call is pending again: claim it then.
                Standing::Running => drop(call.run.take_if(|run| run.is_taken)),
                Standing::Settled => {
                    abort(call.question.as_ref().map(|question| &question.task));
                    abort(call.run.as_ref().map(|run| &run.task));
                }
            }
        }
    }

    /// Renew the claims on the new connection; the ledger repeats there what has no response yet.
    fn hold(&mut self) {
        for (call_id, call) in &mut self.calls {
            let is_held = |run: &&mut Run| {
                let is_running = run.is_claimed.load(Ordering::Acquire) && !run.task.is_finished();
                is_running && !run.is_renewing
            };
            let Some(run) = call.run.as_mut().filter(is_held) else {
                continue;
            };
            let params = ToolClaimParams::new(&self.stream_id, call_id, &run.claim);
            let (client, call_id) = (self.client.clone(), call_id.clone());
            let renewing = async move {
                match say(&client, params).await.map(|told| told.outcome) {
                    Ok(ToolOutcomeKind::Taken) => (call_id, Finish::Taken),
                    // The connection carries other streams, too. Maybe the result arrives before the claim lapses.
                    Err(Error::Unanswered { .. }) => (call_id, Finish::Over),
                    _ => (call_id, Finish::Renewed), // events report all other outcomes
                }
            };
            run.is_renewing = true;
            self.tasks.spawn(renewing);
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

    fn renewed(&mut self, call_id: &str) {
        let call = self.calls.get_mut(call_id);
        if let Some(run) = call.and_then(|call| call.run.as_mut()) {
            run.is_renewing = false;
        }
    }

    /// The stream was dropped: send an error result for each claimed call, because the claims keep other clients from
    /// running it.
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

fn is_denied(question: Option<&Question>) -> bool {
    question.is_some_and(|it| it.is_denied.load(Ordering::Acquire))
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
    is_denied: Arc<AtomicBool>,
) -> (String, Finish) {
    let approval = AssertUnwindSafe(said)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Approval::Denied(Some("nobody could be asked".into())));
    let (approved, reason) = match approval {
        Approval::Approved => (true, None),
        Approval::Denied(reason) => (false, reason.map(shortened)),
    };
    is_denied.store(!approved, Ordering::Release);
    let params = ToolApproveParams {
        reason: reason.clone(),
        ..ToolApproveParams::new(approved, &call.stream_id, &call.call_id)
    };
    let told = say(&client, params).await.map(|told| told.outcome); // an event reports any other outcome
    if matches!(told, Ok(ToolOutcomeKind::TooLate)) && call.by == CallRunner::Client {
        // Another client approved it first, so that the stream waits for it.
        let reason = reason.unwrap_or_else(|| "The call was denied.".into());
        let params = ToolResultParams {
            status: Some(GivenStatus::Denied),
            ..ToolResultParams::new(reason, &call.stream_id, &call.call_id)
        };
        let _ = say(&client, params).await;
    }
    (call.call_id, Finish::Over)
}

fn shortened(reason: String) -> String {
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => reason[..end].to_owned(),
        None => reason,
    }
}

async fn run(
    client: Client,
    call: StreamToolCall,
    claim: String,
    is_claimed: Arc<AtomicBool>,
    handler: Arc<dyn Runnable>,
) -> (String, Finish) {
    let claiming = ToolClaimParams::new(&call.stream_id, &call.call_id, &claim);
    match say(&client, claiming).await.map(|told| told.outcome) {
        Ok(ToolOutcomeKind::Claimed) => is_claimed.store(true, Ordering::Release),
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
            Err(error @ Error::Unanswered { .. }) => Some(error.to_string()),
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

/// Send a request, and repeat it while the server's error is retryable.
async fn say<M: Method<Result = ToolOutcome> + Clone>(
    client: &Client,
    params: M,
) -> Result<ToolOutcome, Error> {
    loop {
        let told = client.call(params.clone()).await;
        match told.as_ref().err().and_then(Error::retry_after) {
            Some(pause) => sleep(pause).await,
            None => return told,
        }
    }
}

fn new_claim() -> String {
    super::new_id("claim-")
}
