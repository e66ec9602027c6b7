//! Peer "tokio": bare tokio, spawn and join.
//!
//! Fair because: as many workers as processors; the host is a task on one of them, where spawning
//! is cheapest; results come back through join handles, tokio's own way; mimalloc as in toolring's
//! process; window, payload and check as toolring's. It does less: no tracking by id, no list, no
//! events, no routing; detaching and cancelling are what the workload itself makes of them.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use toolring_perf_peers::*;

const HOUR: Duration = Duration::from_secs(3600);

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| fail(&error.to_string()))
}

fn launch(ledger: &Ledger, index: usize) -> JoinHandle<u64> {
    let input = ledger.input(index);
    tokio::spawn(async move { mix(input) })
}

async fn pass(ledger: &mut Ledger, random: &mut Random) -> Duration {
    ledger.reset();
    let count = ledger.count();
    let mut handles = VecDeque::with_capacity(WINDOW);
    let (mut launched, mut joined_count) = (0, 0);
    let begin = Instant::now();
    while joined_count < count {
        let wanted = (random.between(BATCH_MIN, BATCH_MAX) as usize).min(count - launched);
        if wanted > 0 && handles.len() + wanted <= WINDOW {
            for index in launched..launched + wanted {
                handles.push_back(launch(ledger, index));
            }
            launched += wanted;
            continue;
        }
        // The window is full: take a quarter of it back, oldest first.
        for _ in 0..handles.len().min(WINDOW / 4) {
            if let Some(handle) = handles.pop_front() {
                ledger.note(joined_count, joined(handle.await));
                joined_count += 1;
            }
        }
    }
    begin.elapsed()
}

fn background(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut ledger = Ledger::new(options.seed, options.size);
        let mut random = Random(options.seed);
        let mut passes = Samples::default();
        pass(&mut ledger, &mut random).await; // warm-up
        let (resident, spent) = (resident_bytes(), cpu());
        for _ in 0..options.passes() {
            passes.add(pass(&mut ledger, &mut random).await);
        }
        let spent = cpu() - spent;
        let grown = resident_bytes().saturating_sub(resident);
        ledger.close();
        report_background(&who, &options, &mut passes, grown, spent);
    });
}

fn turns(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let count = options.turns(200_000, 800_000, 8, 8);
        let warm = count / 10 + 1;
        let mut ledger = Ledger::new(options.seed, (count + warm) * options.size);
        let mut samples = Samples::default();
        let mut handles = Vec::with_capacity(options.size);
        let mut begin = Instant::now();
        for turn in 0..count + warm {
            let start = Instant::now();
            if turn == warm {
                begin = start;
            }
            let first = turn * options.size;
            for index in first..first + options.size {
                handles.push(launch(&ledger, index));
            }
            for (at, handle) in handles.drain(..).enumerate() {
                ledger.note(first + at, joined(handle.await));
            }
            if turn >= warm {
                samples.add(start.elapsed());
            }
        }
        let took = begin.elapsed();
        ledger.close();
        report_turns(&who, &options, &mut samples, took);
    });
}

/// Timers of tokio are futures: armed at their first poll, disarmed when dropped.
fn timers(who: &Contender, options: &Options) {
    const GROUP: usize = 256;
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let mut random = Random(options.seed);
        let mut delay = move || Duration::from_millis(random.between(60_000, 3_600_000));
        let mut outstanding = Vec::with_capacity(options.size);
        for _ in 0..options.size {
            outstanding.push(armed(delay()).await);
        }
        let groups = options.vary(if options.quick { 1000 } else { 8000 });
        let (mut arming, mut cancelling) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..groups {
            let delays: Vec<Duration> = (0..GROUP).map(|_| delay()).collect();
            let mut group = Vec::with_capacity(GROUP);
            let begin = Instant::now();
            for &delay in &delays {
                group.push(armed(delay).await);
            }
            let between = Instant::now();
            drop(group);
            cancelling += between.elapsed();
            arming += between - begin;
        }
        let per = |time: Duration| time.as_nanos() as f64 / (groups * GROUP) as f64;
        Report::new(&who, &options, "ns/arm+cancel", per(arming) + per(cancelling))
            .also("arm ns", per(arming))
            .also("cancel ns", per(cancelling))
            .parameter("outstanding", options.size)
            .parameter("groups", groups)
            .parameter("group", GROUP)
            .end();
        drop(outstanding);
    });
}

async fn armed(delay: Duration) -> std::pin::Pin<Box<tokio::time::Sleep>> {
    let mut timer = Box::pin(tokio::time::sleep(delay));
    std::future::poll_fn(|context| {
        require(timer.as_mut().poll(context).is_pending(), "the timer is armed");
        std::task::Poll::Ready(())
    })
    .await;
    timer
}

/// Counts itself, then waits for an hour.
async fn wait(started: Arc<AtomicUsize>) {
    started.fetch_add(1, Ordering::Release);
    tokio::time::sleep(HOUR).await;
}

async fn await_count(started: &AtomicUsize, count: usize) {
    while started.load(Ordering::Acquire) < count {
        tokio::task::yield_now().await;
    }
}

fn sleepers(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let started = Arc::new(AtomicUsize::new(0));
        let mut handles = Vec::with_capacity(options.size);
        let resident = resident_bytes();
        let begin = Instant::now();
        for _ in 0..options.size {
            handles.push(tokio::spawn(wait(started.clone())));
        }
        await_count(&started, options.size).await;
        let launching = begin.elapsed();
        let resident = resident_bytes() - resident;
        let begin = Instant::now();
        for handle in &handles {
            handle.abort();
        }
        let cancelling = begin.elapsed();
        let begin = Instant::now();
        for handle in handles {
            let cancelled = handle.await.is_err_and(|error| error.is_cancelled());
            require(cancelled, "each was cancelled");
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

fn idle(who: &Contender, options: &Options) {
    const TASKS: usize = 10_000;
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let started = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..TASKS).map(|_| tokio::spawn(wait(started.clone()))).collect();
        await_count(&started, TASKS).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let seconds = if options.quick { 2 } else { 10 };
        let spent = cpu();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let spent = cpu() - spent;
        for handle in handles {
            handle.abort();
            require(handle.await.is_err_and(|error| error.is_cancelled()), "each was cancelled");
        }
        Report::new(&who, &options, "cpu s", spent.as_secs_f64())
            .parameter("tasks", TASKS)
            .parameter("seconds", seconds as usize)
            .end();
    });
}

async fn echo(word: &str) {
    let output = tokio::process::Command::new("/bin/echo")
        .arg(word)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| fail(&error.to_string()));
    require(output.status.success() && output.stderr.is_empty(), "echo succeeds");
    require(output.stdout.strip_suffix(b"\n") == Some(word.as_bytes()), "the word came back");
}

async fn shell_turn(seed: u64, first: usize, calls: usize) -> Duration {
    let begin = Instant::now();
    let handles: Vec<_> = (first..first + calls)
        .map(|index| tokio::spawn(async move { echo(&word_of(seed, index)).await }))
        .collect();
    for handle in handles {
        joined(handle.await);
    }
    begin.elapsed()
}

fn measure_shell(who: &Contender, options: &Options, ballast: usize) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let count = options.turns(1200, 4000, 1, 16);
        let mut samples = Samples::default();
        shell_turn(options.seed, count * options.size, options.size).await; // warm-up
        let (spent, begin) = (cpu(), Instant::now());
        for turn in 0..count {
            samples.add(shell_turn(options.seed, turn * options.size, options.size).await);
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

async fn agent_call(kind: Kind, input: u64, steps: u64, path: Arc<str>) -> u64 {
    match kind {
        Kind::Compute => {
            compute(steps);
        }
        Kind::ReadFile => require(read_file(&path), "the file is read"),
        Kind::Wait => tokio::time::sleep(Duration::from_millis(50)).await,
        Kind::Shell => echo("done").await,
    }
    mix(input)
}

/// One session: its turns one after the other. A wait that is not over after 20 ms is left to the
/// end.
async fn agent(
    session: usize,
    turns: usize,
    seed: u64,
    steps: u64,
    path: Arc<str>,
) -> (Vec<f64>, Vec<(usize, u64)>) {
    const CALLS: usize = 8;
    let mut random = Random(mix(seed ^ session as u64));
    let base = mix(seed);
    let (mut latencies, mut results, mut detached) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        let begin = Instant::now();
        let calls: Vec<_> = (0..CALLS)
            .map(|at| {
                let index = (session * turns + turn) * CALLS + at;
                let kind = Kind::draw(&mut random);
                let call = agent_call(kind, base ^ index as u64, steps, path.clone());
                (index, kind, tokio::spawn(call))
            })
            .collect();
        let deadline = tokio::time::Instant::from_std(begin) + Duration::from_millis(20);
        for (index, kind, mut handle) in calls {
            if kind == Kind::Wait {
                match tokio::time::timeout_at(deadline, &mut handle).await {
                    Ok(result) => results.push((index, joined(result))),
                    Err(_) => detached.push((index, handle)),
                }
            } else {
                results.push((index, joined(handle.await)));
            }
        }
        latencies.push(begin.elapsed().as_nanos() as f64);
    }
    for (index, handle) in detached {
        results.push((index, joined(handle.await)));
    }
    (latencies, results)
}

fn agents(who: &Contender, options: &Options) {
    let (who, options) = (who.clone(), options.clone());
    run_host(async move {
        let turns = (if options.quick { 4000 } else { 20_000 }) / options.size + 1;
        let mut ledger = Ledger::new(options.seed, options.size * turns * 8);
        let steps = calibrate();
        let path: Arc<str> = make_file().into();
        let mut samples = Samples::default();
        let resident = resident_bytes();
        resident_peak_reset();
        let (spent, begin) = (cpu_with_children(), Instant::now());
        let handles: Vec<_> = (0..options.size)
            .map(|at| tokio::spawn(agent(at, turns, options.seed, steps, path.clone())))
            .collect();
        for handle in handles {
            let (latencies, results) = joined(handle.await);
            samples.0.extend(latencies);
            for (index, result) in results {
                ledger.note(index, result);
            }
        }
        let (took, spent) = (begin.elapsed(), cpu_with_children() - spent);
        let resident = resident_peak_bytes().saturating_sub(resident);
        let _ = std::fs::remove_file(&*path);
        ledger.close();
        report_agents(&who, &options, &mut samples, took, spent, resident);
    });
}

fn main() {
    let who = Contender { name: "tokio", version: locked_version("tokio", "1.") };
    peer_main(
        &who,
        &[
            ("background-*", background),
            ("turns-*", turns),
            ("timers-*", timers),
            ("sleepers-*", sleepers),
            ("sleepers-fibers-*", sleepers),
            ("idle", idle),
            ("shell-*", shell),
            ("shell-*-2gib", shell_big),
            ("agents-*", agents),
        ],
    );
}
