//! The peers "agentkit" and "agentkit-0.7": the task manager of agentkit, `AsyncTaskManager`, on
//! tokio.
//!
//! The same source for both versions; the programs in bin/ say which crates the names stand for.
//!
//! Fair because: the executor is our own and goes straight to the tool, without registry, schema or
//! permission checks; inputs and results are plain JSON numbers; the host is a task on a worker;
//! mimalloc as in toolring's process; window, payload and check as toolring's. Events are read as
//! they come, since nothing else frees them. Commands go through agentkit's own shell tool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use toolring_perf_peers::*;

use crate::core_crate::{
    CancellationController, Item, MetadataMap, Part, SessionId, TaskId, ToolCallId, ToolOutput,
    ToolResultPart, TurnCancellation, TurnId,
};
use crate::shell_crate::ShellExecTool;
use crate::task_manager::{
    AsyncTaskManager, RoutingDecision, TaskEvent, TaskLaunchRequest, TaskManager,
    TaskManagerHandle, TaskResolution, TaskStartContext, TaskStartOutcome, TurnTaskUpdate,
};
use crate::tools::{
    self, PermissionChecker, PermissionDecision, PermissionRequest, Tool, ToolContext,
    ToolExecutionOutcome, ToolExecutor, ToolName, ToolRequest, ToolResult, ToolSpec,
};

const HOUR: Duration = Duration::from_secs(3600);

struct AllowAll;

impl PermissionChecker for AllowAll {
    fn evaluate(&self, _: &dyn PermissionRequest) -> PermissionDecision {
        PermissionDecision::Allow
    }
}

fn sure<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| fail(&error.to_string()))
}

// ---- the tools ----

/// Every tool of the benchmarks in one executor, told apart by name.
struct Tools {
    shell: ShellExecTool,
    started: AtomicUsize,
    noticed_ns: AtomicU64,
    steps: u64,
    path: String,
}

impl Tools {
    fn new(steps: u64, path: String) -> Arc<Self> {
        Arc::new(Self {
            shell: ShellExecTool::default(),
            started: AtomicUsize::new(0),
            noticed_ns: AtomicU64::new(0),
            steps,
            path,
        })
    }

    async fn await_started(&self, count: usize) {
        while self.started.load(Ordering::Acquire) < count {
            tokio::task::yield_now().await;
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| fail("an input is no number"))
}

#[async_trait]
impl ToolExecutor for Tools {
    fn specs(&self) -> Vec<ToolSpec> {
        Vec::new()
    }

    async fn execute(
        &self,
        request: ToolRequest,
        ctx: &mut ToolContext<'_>,
    ) -> ToolExecutionOutcome {
        let input = match request.tool_name.0.as_str() {
            "mix" => number(&request.input),
            "compute" => {
                compute(self.steps);
                number(&request.input)
            }
            "file" => {
                require(read_file(&self.path), "the file is read");
                number(&request.input)
            }
            "sleep-20" => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                number(&request.input)
            }
            "sleep-50" => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                number(&request.input)
            }
            "wait" => {
                self.started.fetch_add(1, Ordering::Release);
                tokio::time::sleep(HOUR).await;
                number(&request.input)
            }
            "wait-or-cancel" => {
                // The only way for a tool here to notice that it should stop.
                self.started.fetch_add(1, Ordering::Release);
                match ctx.cancellation.clone() {
                    Some(cancellation) => tokio::select! {
                        _ = tokio::time::sleep(HOUR) => {}
                        _ = cancellation.cancelled() => {
                            self.noticed_ns.store(now_ns(), Ordering::Release);
                        }
                    },
                    None => tokio::time::sleep(HOUR).await,
                }
                number(&request.input)
            }
            _ => {
                return match self.shell.invoke(request, ctx).await {
                    Ok(result) => ToolExecutionOutcome::Completed(result),
                    Err(error) => ToolExecutionOutcome::Failed(error),
                };
            }
        };
        let output = ToolOutput::Structured(Value::from(mix(input)));
        let part = ToolResultPart {
            call_id: request.call_id,
            output,
            is_error: false,
            metadata: MetadataMap::new(),
        };
        ToolExecutionOutcome::Completed(ToolResult {
            result: part,
            duration: None,
            metadata: MetadataMap::new(),
        })
    }
}

// ---- the host ----

struct Host {
    manager: AsyncTaskManager,
    handle: TaskManagerHandle,
    tools: Arc<Tools>,
    executor: Arc<dyn ToolExecutor>,
    permissions: Arc<dyn PermissionChecker>,
    resources: Arc<dyn tools::ToolResources>,
    cancellation: Option<TurnCancellation>,
    session: SessionId,
    events: usize,
}

impl Host {
    fn new(
        tools: Arc<Tools>,
        route: impl Fn(&ToolRequest) -> RoutingDecision + Send + Sync + 'static,
    ) -> Self {
        let manager = AsyncTaskManager::new().routing(route);
        let handle = manager.handle();
        Self {
            manager,
            handle,
            executor: tools.clone(),
            tools,
            permissions: Arc::new(AllowAll),
            resources: Arc::new(()),
            cancellation: None,
            session: SessionId::new("session"),
            events: 0,
        }
    }

    async fn launch(&self, turn: &TurnId, tool: &str, index: usize, input: Value) -> TaskId {
        let manager = &self.manager;
        self.launch_with(manager, turn, tool, index, input).await
    }

    /// The same with a manager that others hold too.
    async fn launch_with(
        &self,
        manager: &AsyncTaskManager,
        turn: &TurnId,
        tool: &str,
        index: usize,
        input: Value,
    ) -> TaskId {
        let request = ToolRequest {
            call_id: ToolCallId::new(index.to_string()),
            tool_name: ToolName::new(tool),
            input,
            session_id: self.session.clone(),
            turn_id: turn.clone(),
            metadata: MetadataMap::new(),
        };
        let tool_context = owned_context! {
            session_id: self.session.clone(),
            turn_id: turn.clone(),
            metadata: MetadataMap::new(),
            permissions: self.permissions.clone(),
            resources: self.resources.clone(),
            cancellation: self.cancellation.clone(),
        };
        let context = TaskStartContext { executor: self.executor.clone(), tool_context };
        let request = TaskLaunchRequest::plain(None, request);
        match sure(manager.start_task(request, context).await) {
            TaskStartOutcome::Pending { task_id, .. } => task_id,
            TaskStartOutcome::Ready(_) => fail("a call was ready at once"),
        }
    }

    /// Reads events until so many have come in all.
    async fn read_events(&mut self, count: usize) {
        while self.events < count {
            require(self.handle.next_event().await.is_some(), "there are events");
            self.events += 1;
        }
    }

    /// Takes everything of a turn; returns how many tasks of it were detached.
    async fn finish_turn(&self, turn: &TurnId, mut note: impl FnMut(&Item)) -> usize {
        let mut detached = 0;
        while let Some(update) = sure(self.manager.wait_for_turn(turn, None).await) {
            match update {
                TurnTaskUpdate::Resolution(resolution) => note(item_of(&resolution)),
                TurnTaskUpdate::Detached(_) => detached += 1,
            }
        }
        detached
    }

    /// Takes the background results that are there.
    async fn take_loop(&self, mut note: impl FnMut(&Item)) -> usize {
        let updates = sure(self.manager.take_pending_loop_updates().await);
        updates.resolutions.iter().for_each(|resolution| note(item_of(resolution)));
        updates.resolutions.len()
    }
}

fn item_of(resolution: &TaskResolution) -> &Item {
    match resolution {
        TaskResolution::Item(item) => item,
        TaskResolution::Approval(_) => fail("nobody asked for an approval"),
    }
}

fn result_of(item: &Item) -> &ToolResultPart {
    match item.parts.first() {
        Some(Part::ToolResult(part)) if !part.is_error => part,
        _ => fail(&format!("a call failed: {item:?}")),
    }
}

fn index_of(part: &ToolResultPart) -> usize {
    part.call_id.0.parse().unwrap_or_else(|_| fail("a call id is no number"))
}

fn note(ledger: &mut Ledger, item: &Item) {
    let part = result_of(item);
    match &part.output {
        ToolOutput::Structured(value) => ledger.note(index_of(part), number(value)),
        _ => fail("a result is no number"),
    }
}

fn stdout_of(part: &ToolResultPart) -> &str {
    match &part.output {
        ToolOutput::Structured(value) => value["stdout"].as_str().unwrap_or(""),
        _ => fail("a command gave no structure"),
    }
}

fn foreground(_: &ToolRequest) -> RoutingDecision {
    RoutingDecision::Foreground
}

fn background_route(_: &ToolRequest) -> RoutingDecision {
    RoutingDecision::Background
}

// ---- the workloads ----

/// Launches, runs and drains every call of the ledger.
async fn pass(
    host: &mut Host,
    ledger: &mut Ledger,
    random: &mut Random,
    turns: &[TurnId],
) -> Duration {
    ledger.reset();
    let count = ledger.count();
    let (events, mut launched) = (host.events, 0);
    let begin = Instant::now();
    while ledger.seen < count {
        let wanted = (random.between(BATCH_MIN, BATCH_MAX) as usize).min(count - launched);
        let room = launched - ledger.seen + wanted <= WINDOW;
        if wanted > 0 && room {
            let turn = &turns[random.next() as usize % turns.len()];
            for index in launched..launched + wanted {
                host.launch(turn, "mix", index, Value::from(ledger.input(index))).await;
            }
            launched += wanted;
        }
        let taken = host.take_loop(|item| note(ledger, item)).await;
        let seen = ledger.seen;
        host.read_events(events + 2 * seen).await;
        if taken == 0 && !(wanted > 0 && room) {
            let next = host.events + 1;
            if next <= events + 2 * launched {
                host.read_events(next).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }
    host.read_events(events + 2 * count).await;
    begin.elapsed()
}

fn background(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), background_route);
        let turns: Vec<TurnId> = (0..16).map(|at| TurnId::new(format!("turn-{at}"))).collect();
        let mut ledger = Ledger::new(options.seed, options.size);
        let mut random = Random(options.seed);
        let mut passes = Samples::default();
        // It slows down with every task it has ever run, so the warm-up is short, and a figure for
        // a size is that of the first pass over it, in a manager that has run nothing else.
        let mut warm = Ledger::new(options.seed, options.size.min(2000));
        pass(&mut host, &mut warm, &mut random, &turns).await;
        let (resident, spent) = (resident_bytes(), cpu());
        passes.add(pass(&mut host, &mut ledger, &mut random, &turns).await);
        let spent = cpu() - spent;
        let grown = resident_bytes().saturating_sub(resident);
        ledger.close();
        report_background(&who, &options, &mut passes, grown, spent);
    });
}

fn turns(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), foreground);
        let count = options.turns(40_000, 160_000, 8, 8);
        let warm = count / 20 + 1;
        let mut ledger = Ledger::new(options.seed, (count + warm) * options.size);
        let mut samples = Samples::default();
        let mut begin = Instant::now();
        for turn in 0..count + warm {
            let start = Instant::now();
            if turn == warm {
                begin = start;
            }
            let id = TurnId::new(format!("turn-{turn}"));
            let first = turn * options.size;
            for index in first..first + options.size {
                host.launch(&id, "mix", index, Value::from(ledger.input(index))).await;
            }
            host.finish_turn(&id, |item| note(&mut ledger, item)).await;
            if turn >= warm {
                samples.add(start.elapsed());
            }
            host.read_events(2 * (first + options.size)).await;
        }
        let took = begin.elapsed();
        ledger.close();
        report_turns(&who, &options, &mut samples, took);
    });
}

fn detach(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let route =
            |_: &ToolRequest| RoutingDecision::ForegroundThenDetachAfter(Duration::from_millis(5));
        let mut host = Host::new(Tools::new(0, String::new()), route);
        let turns: Vec<TurnId> = (0..16).map(|at| TurnId::new(format!("turn-{at}"))).collect();
        let mut ledger = Ledger::new(options.seed, options.size);
        let spent = cpu();
        let begin = Instant::now();
        for index in 0..options.size {
            let input = Value::from(ledger.input(index));
            host.launch(&turns[index % 16], "sleep-20", index, input).await;
        }
        let mut detached = 0;
        for turn in &turns {
            detached += host.finish_turn(turn, |item| note(&mut ledger, item)).await;
        }
        host.read_events(2 * options.size + detached).await;
        while ledger.seen < options.size {
            host.take_loop(|item| note(&mut ledger, item)).await;
        }
        let took = begin.elapsed();
        ledger.close();
        let per = |time: Duration| time.as_nanos() as f64 / options.size as f64;
        Report::new(&who, &options, "ns/task", per(took))
            .also("cpu ns/task", per(cpu() - spent))
            .also("not detached", (options.size - detached) as f64)
            .parameter("calls", options.size)
            .end();
    });
}

/// It gives a cancelled call no result; that each was cancelled is seen by its event.
fn sleepers(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), background_route);
        let turn = TurnId::new("turn");
        let mut tasks = vec![TaskId::new(""); options.size];
        let resident = resident_bytes();
        let begin = Instant::now();
        for (index, task) in tasks.iter_mut().enumerate() {
            *task = host.launch(&turn, "wait", index, Value::from(index)).await;
            host.read_events(index + 1).await;
        }
        host.tools.await_started(options.size).await;
        let launching = begin.elapsed();
        let resident = resident_bytes() - resident;
        let begin = Instant::now();
        for task in tasks {
            sure(host.handle.cancel(task).await);
        }
        let cancelling = begin.elapsed();
        let begin = Instant::now();
        for _ in 0..options.size {
            let event = host.handle.next_event().await;
            require(matches!(event, Some(TaskEvent::Cancelled(_))), "each was cancelled");
        }
        let taking = begin.elapsed();
        let per = |time: Duration| time.as_nanos() as f64 / options.size as f64;
        Report::new(&who, &options, "B/task", resident as f64 / options.size as f64)
            .also("launch ns", per(launching))
            .also("cancel ns", per(cancelling))
            .also("take ns", per(taking))
            .parameter("tasks", options.size)
            .end();
    });
}

/// `notice` as toolring's: from the cancel until the tool runs again; the turn's token is what it
/// watches. `interrupt`: a turn of 100 waiting calls, beside so many finished ones.
fn cancel(who: &Contender, options: &Options) {
    const TURN_CALLS: usize = 100;
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), foreground);
        let mut notice = Samples::default();
        for index in 0..options.vary(if options.quick { 100 } else { 500 }) {
            let controller = CancellationController::new();
            let turn = TurnId::new(format!("notice-{index}"));
            host.cancellation = Some(controller.handle().checkpoint());
            host.launch(&turn, "wait-or-cancel", index, Value::from(index)).await;
            host.tools.await_started(index + 1).await;
            let pause = Random(options.seed ^ index as u64).between(0, 10_000);
            tokio::time::sleep(Duration::from_micros(pause)).await;
            let begin = now_ns();
            controller.interrupt();
            host.finish_turn(&turn, |_| {}).await;
            let noticed = host.tools.noticed_ns.swap(0, Ordering::AcqRel);
            require(noticed >= begin, "the tool noticed");
            notice.add(Duration::from_nanos(noticed - begin));
            host.read_events(2 * (index + 1)).await;
        }
        host.cancellation = None;
        let (mut alone, mut beside) = (Samples::default(), Samples::default());
        measure_interrupts(&mut host, "alone", TURN_CALLS, options.quick, &mut alone).await;
        // As many finished tasks as for toolring, a tenth when quick.
        let turn = TurnId::new("beside");
        let finished = if options.quick { 100_000 } else { 1_000_000 };
        for index in 0..finished {
            host.launch(&turn, "mix", index, Value::from(index)).await;
            if index % 1000 == 999 {
                host.finish_turn(&turn, |_| {}).await;
                let seen = host.events;
                host.read_events(seen + 2000).await;
            }
        }
        measure_interrupts(&mut host, "beside", TURN_CALLS, options.quick, &mut beside).await;
        Report::new(&who, &options, "notice p99 µs", notice.at(0.99) / 1e3)
            .latency("notice µs", &mut notice, 1e3)
            .latency("interrupt alone µs", &mut alone, 1e3)
            .latency("interrupt beside µs", &mut beside, 1e3)
            .parameter("notices", notice.0.len())
            .parameter("finished", finished)
            .end();
    });
}

async fn measure_interrupts(
    host: &mut Host,
    name: &str,
    calls: usize,
    quick: bool,
    samples: &mut Samples,
) {
    for round in 0..if quick { 5 } else { 20 } {
        let turn = TurnId::new(format!("{name}-{round}"));
        let before = host.tools.started.load(Ordering::Acquire);
        for index in 0..calls {
            host.launch(&turn, "wait", index, Value::from(index)).await;
        }
        host.tools.await_started(before + calls).await;
        let begin = Instant::now();
        sure(host.manager.on_turn_interrupted(&turn).await);
        let left = sure(host.manager.wait_for_turn(&turn, None).await);
        require(left.is_none(), "the turn is idle");
        samples.add(begin.elapsed());
        let seen = host.events;
        host.read_events(seen + 2 * calls).await;
    }
}

/// Interrupting a turn without calls, after so many tasks that have ended and were drained.
fn interrupt(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), background_route);
        let turns: Vec<TurnId> = (0..16).map(|at| TurnId::new(format!("turn-{at}"))).collect();
        let mut ledger = Ledger::new(options.seed, options.size);
        let mut random = Random(options.seed);
        pass(&mut host, &mut ledger, &mut random, &turns).await;
        ledger.close();
        let mut samples = Samples::default();
        let empty = TurnId::new("empty");
        for _ in 0..if options.quick { 5 } else { 20 } {
            let begin = Instant::now();
            sure(host.manager.on_turn_interrupted(&empty).await);
            samples.add(begin.elapsed());
        }
        Report::new(&who, &options, "ns/interrupt", samples.at(0.5))
            .latency("single ns", &mut samples, 1.0)
            .parameter("finished", options.size)
            .parameter("interrupts", samples.0.len())
            .end();
    });
}

async fn one_by_one(host: &mut Host, ledger: &mut Ledger, calls: usize) -> f64 {
    let turn = TurnId::new("one-by-one");
    ledger.reset();
    let begin = Instant::now();
    for index in 0..calls {
        host.launch(&turn, "mix", index, Value::from(ledger.input(index))).await;
        host.finish_turn(&turn, |item| note(ledger, item)).await;
        let seen = host.events;
        host.read_events(seen + 2).await;
    }
    let took = begin.elapsed();
    ledger.close();
    took.as_nanos() as f64 / calls as f64
}

fn crowd(who: &Contender, options: &Options) {
    const CROWD: usize = 1000;
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), foreground);
        let calls = options.vary(if options.quick { 1000 } else { 4000 });
        let mut ledger = Ledger::new(options.seed, calls);
        let alone = one_by_one(&mut host, &mut ledger, calls).await;
        let mut tasks = Vec::new();
        for at in 0..CROWD {
            let turn = TurnId::new(format!("crowd-{at}"));
            tasks.push(host.launch(&turn, "wait", at, Value::from(at)).await);
        }
        host.read_events(2 * calls + CROWD).await;
        host.tools.await_started(CROWD).await;
        let shared = Arc::new(host.manager);
        let waiters: Vec<_> = (0..CROWD)
            .map(|at| {
                let manager = shared.clone();
                let turn = TurnId::new(format!("crowd-{at}"));
                tokio::spawn(
                    async move { sure(manager.wait_for_turn(&turn, None).await).is_none() },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let crowded = crowd_calls(&shared, &host.handle, &host.tools, &mut ledger, calls).await;
        for task in tasks {
            sure(host.handle.cancel(task).await);
        }
        for waiter in waiters {
            require(sure(waiter.await), "a waiter's turn became idle");
        }
        Report::new(&who, &options, "ns/call", crowded)
            .also("alone ns/call", alone)
            .also("crowd / alone", crowded / alone)
            .parameter("calls", calls)
            .parameter("crowd", CROWD)
            .end();
    });
}

/// The same as one_by_one, with a manager that others hold too.
async fn crowd_calls(
    manager: &Arc<AsyncTaskManager>,
    handle: &TaskManagerHandle,
    tools: &Arc<Tools>,
    ledger: &mut Ledger,
    calls: usize,
) -> f64 {
    // A Host of its own for what launching needs besides; routing and state are the shared
    // manager's.
    let helper = Host::new(tools.clone(), foreground);
    let turn = TurnId::new("one-by-one");
    ledger.reset();
    let begin = Instant::now();
    for index in 0..calls {
        let input = Value::from(ledger.input(index));
        helper.launch_with(manager, &turn, "mix", index, input).await;
        while let Some(update) = sure(manager.wait_for_turn(&turn, None).await) {
            if let TurnTaskUpdate::Resolution(resolution) = update {
                note(ledger, item_of(&resolution));
            }
        }
        for _ in 0..2 {
            require(handle.next_event().await.is_some(), "there are events");
        }
    }
    let took = begin.elapsed();
    ledger.close();
    took.as_nanos() as f64 / calls as f64
}

fn idle(who: &Contender, options: &Options) {
    const TASKS: usize = 10_000;
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), background_route);
        let controller = CancellationController::new();
        host.cancellation = Some(controller.handle().checkpoint());
        let turn = TurnId::new("turn");
        for index in 0..TASKS {
            let tool = if index % 2 == 0 { "wait" } else { "wait-or-cancel" };
            host.launch(&turn, tool, index, Value::from(index)).await;
        }
        host.tools.await_started(TASKS).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let seconds = if options.quick { 2 } else { 10 };
        let spent = cpu();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let spent = cpu() - spent;
        Report::new(&who, &options, "cpu s", spent.as_secs_f64())
            .parameter("tasks", TASKS)
            .parameter("seconds", seconds as usize)
            .end();
    });
}

fn echo_input(word: &str) -> Value {
    json!({"executable": "/bin/echo", "argv": [word]})
}

async fn shell_turn(host: &mut Host, seed: u64, first: usize, calls: usize) -> Duration {
    let begin = Instant::now();
    let turn = TurnId::new(format!("turn-{first}"));
    for index in first..first + calls {
        host.launch(&turn, "shell_exec", index, echo_input(&word_of(seed, index))).await;
    }
    let mut seen = 0;
    host.finish_turn(&turn, |item| {
        let part = result_of(item);
        let word = word_of(seed, index_of(part));
        require(stdout_of(part).strip_suffix('\n') == Some(word.as_str()), "the word came back");
        seen += 1;
    })
    .await;
    let took = begin.elapsed();
    require(seen == calls, "every command ended");
    let events = host.events;
    host.read_events(events + 2 * calls).await;
    took
}

fn measure_shell(who: &Contender, options: &Options, ballast: usize) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut host = Host::new(Tools::new(0, String::new()), foreground);
        let count = options.turns(1200, 4000, 1, 16);
        let mut samples = Samples::default();
        shell_turn(&mut host, options.seed, count * options.size, options.size).await; // warm-up
        let (spent, begin) = (cpu(), Instant::now());
        for turn in 0..count {
            let first = turn * options.size;
            samples.add(shell_turn(&mut host, options.seed, first, options.size).await);
        }
        let (took, spent) = (begin.elapsed(), cpu() - spent);
        report_shell(&who, &options, &mut samples, took, spent, ballast);
    });
}

fn shell(who: &Contender, options: &Options) {
    measure_shell(who, options, 0);
}

fn shell_big(who: &Contender, options: &Options) {
    let bytes = ballast();
    measure_shell(who, options, bytes);
}

/// 1 GiB through its shell tool, which keeps all of it.
fn output(who: &Contender, options: &Options) {
    const BYTES: usize = 1 << 30;
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let host = Host::new(Tools::new(0, String::new()), foreground);
        let resident = resident_bytes();
        resident_peak_reset();
        let turn = TurnId::new("turn");
        let command = format!("head -c {BYTES} /dev/zero | tr '\\0' 'a'");
        let input = json!({"executable": "/bin/sh", "argv": ["-c", command]});
        let begin = Instant::now();
        host.launch(&turn, "shell_exec", 0, input).await;
        let mut size = 0;
        host.finish_turn(&turn, |item| size = stdout_of(result_of(item)).len()).await;
        let took = begin.elapsed();
        require(size == BYTES, "every byte came");
        let resident = resident_peak_bytes().saturating_sub(resident);
        Report::new(&who, &options, "MiB/s", 1024.0 / took.as_secs_f64())
            .also("resident MiB", resident as f64 / 1_048_576.0)
            .parameter("bytes", BYTES)
            .end();
    });
}

// ---- agents ----

const CALLS: usize = 8;

/// One session with its turns; returns latencies and what its turns brought. Its detached waits
/// come through the manager's one list of loop updates, which the host takes for all.
async fn agent(
    host: Arc<Host>,
    session: usize,
    turns: usize,
    seed: u64,
) -> (Vec<f64>, Vec<(usize, Option<u64>)>) {
    let mut random = Random(mix(seed ^ session as u64));
    let base = mix(seed);
    let (mut latencies, mut results) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        let begin = Instant::now();
        let id = TurnId::new(format!("{session}-{turn}"));
        for at in 0..CALLS {
            let index = (session * turns + turn) * CALLS + at;
            let (tool, input) = match Kind::draw(&mut random) {
                Kind::Compute => ("compute", Value::from(base ^ index as u64)),
                Kind::ReadFile => ("file", Value::from(base ^ index as u64)),
                Kind::Wait => ("sleep-50", Value::from(base ^ index as u64)),
                Kind::Shell => ("shell_exec", echo_input("done")),
            };
            host.launch(&id, tool, index, input).await;
        }
        host.finish_turn(&id, |item| results.push(value_of(item))).await;
        latencies.push(begin.elapsed().as_nanos() as f64);
    }
    (latencies, results)
}

/// A call's index and number; none for a command, whose words are looked at here.
fn value_of(item: &Item) -> (usize, Option<u64>) {
    let part = result_of(item);
    match &part.output {
        ToolOutput::Structured(Value::Number(value)) => (index_of(part), value.as_u64()),
        _ => {
            require(stdout_of(part) == "done\n", "the word came back");
            (index_of(part), None)
        }
    }
}

fn note_value(ledger: &mut Ledger, (index, value): (usize, Option<u64>)) {
    let value = value.unwrap_or_else(|| mix(ledger.input(index)));
    ledger.note(index, value);
}

fn agents(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let turns = (if options.quick { 4000 } else { 20_000 }) / options.size + 1;
        let mut ledger = Ledger::new(options.seed, options.size * turns * CALLS);
        let tools = Tools::new(calibrate(), make_file());
        let route = |request: &ToolRequest| match request.tool_name.0.as_str() {
            "sleep-50" => RoutingDecision::ForegroundThenDetachAfter(Duration::from_millis(20)),
            _ => RoutingDecision::Foreground,
        };
        let resident = resident_bytes();
        resident_peak_reset();
        let host = Arc::new(Host::new(tools.clone(), route));
        let events = {
            let handle = host.handle.clone();
            tokio::spawn(async move { while handle.next_event().await.is_some() {} })
        };
        let (spent, begin) = (cpu_with_children(), Instant::now());
        let sessions: Vec<_> = (0..options.size)
            .map(|at| tokio::spawn(agent(host.clone(), at, turns, options.seed)))
            .collect();
        let mut samples = Samples::default();
        for session in sessions {
            let (latencies, results) = sure(session.await);
            samples.0.extend(latencies);
            results.into_iter().for_each(|result| note_value(&mut ledger, result));
        }
        while ledger.seen < ledger.count() {
            host.take_loop(|item| note_value(&mut ledger, value_of(item))).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (took, spent) = (begin.elapsed(), cpu_with_children() - spent);
        events.abort();
        let resident = resident_peak_bytes().saturating_sub(resident);
        let _ = std::fs::remove_file(&tools.path);
        ledger.close();
        report_agents(&who, &options, &mut samples, took, spent, resident);
    });
}

pub fn run(name: &'static str, version: &str) {
    peer_main(
        &Contender { name, version: locked_version("agentkit-task-manager", version) },
        &[
            // It keeps 2 KB for every task it ever ran: ten million would take all the memory there
            // is.
            ("background-10000", background),
            ("background-100000", background),
            ("background-1000000", background),
            ("interrupt-10000", interrupt),
            ("interrupt-100000", interrupt),
            ("interrupt-1000000", interrupt),
            ("turns-*", turns),
            ("detach-*", detach),
            ("sleepers-*", sleepers),
            ("sleepers-fibers-*", sleepers),
            ("cancel", cancel),
            ("crowd", crowd),
            ("idle", idle),
            ("shell-*", shell),
            ("shell-*-2gib", shell_big),
            ("output", output),
            ("agents-*", agents),
        ],
    );
}
