//! What the C benchmarks have in measure.h: seed, the checked count of results, samples, and the
//! one JSON line of a run. The formulas are the same, so the work and its checks are the same.

use std::fmt::Write;
use std::time::{Duration, Instant};

/// The allocator toolring's process has as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub const WINDOW: usize = 16384;
pub const BATCH_MIN: u64 = 192;
pub const BATCH_MAX: u64 = 320;

pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}

#[derive(Clone)]
pub struct Options {
    pub workload: String,
    pub size: usize,
    pub seed: u64,
    pub quick: bool,
}

impl Options {
    /// `base` give or take 1/16, by the seed.
    pub fn vary(&self, base: usize) -> usize {
        let span = (base / 16) as u64;
        Random(self.seed ^ base as u64).between(base as u64 - span, base as u64 + span) as usize
    }

    pub fn passes(&self) -> usize {
        let work = if self.quick { 1_000_000 } else { 4_000_000 };
        (work / self.size).clamp(1, 100)
    }

    pub fn turns(&self, quick: usize, normal: usize, each: usize, least: usize) -> usize {
        self.vary((if self.quick { quick } else { normal }) / (self.size + each) + least)
    }
}

/// Each result exactly once, each right.
pub struct Ledger {
    seed: u64,
    marks: Vec<bool>,
    pub seen: usize,
}

impl Ledger {
    pub fn new(seed: u64, count: usize) -> Self {
        let mut ledger = Self { seed: mix(seed), marks: vec![true; count], seen: 0 };
        ledger.reset();
        ledger
    }

    pub fn reset(&mut self) {
        self.marks.fill(false);
        self.seen = 0;
    }

    pub fn count(&self) -> usize {
        self.marks.len()
    }

    pub fn input(&self, index: usize) -> u64 {
        self.seed ^ index as u64
    }

    pub fn note(&mut self, index: usize, result: u64) {
        if self.marks[index] || result != mix(self.input(index)) {
            fail(&format!("call {index}: lost, doubled or wrong"));
        }
        self.marks[index] = true;
        self.seen += 1;
    }

    pub fn close(&self) {
        if self.seen != self.marks.len() {
            fail(&format!("{} results of {} came", self.seen, self.marks.len()));
        }
    }
}

pub fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}

pub fn require(condition: bool, what: &str) {
    if !condition {
        fail(&format!("not true: {what}"));
    }
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// Whether the host is to be a thread outside the runtime, as toolring's is, by
/// TOOLRING_PEER_HOST=outside.
fn host_is_outside() -> bool {
    std::env::var("TOOLRING_PEER_HOST").is_ok_and(|place| place == "outside")
}

/// Runs the host as a task on one of the runtime's own workers, where spawning is cheapest, unless
/// it is to be outside.
pub fn run_host<F>(host: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors())
        .enable_all()
        .build()
        .unwrap_or_else(|error| fail(&error.to_string()));
    if host_is_outside() {
        runtime.block_on(host);
        return;
    }
    runtime.block_on(async move {
        if let Err(error) = tokio::spawn(host).await {
            fail(&error.to_string());
        }
    });
}

pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * 4096
}

pub fn resident_peak_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    kib * 1024
}

pub fn resident_peak_reset() {
    require(std::fs::write("/proc/self/clear_refs", "5").is_ok(), "the peak is reset");
}

fn cpu_of(who: libc::c_int) -> Duration {
    // SAFETY: getrusage fills the structure it is given; zero is a valid value of every field.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime))
}

pub fn cpu() -> Duration {
    cpu_of(libc::RUSAGE_SELF)
}

pub fn cpu_with_children() -> Duration {
    cpu() + cpu_of(libc::RUSAGE_CHILDREN)
}

/// CLOCK_MONOTONIC, the clock of `--signal-clock` children.
pub fn now_ns() -> u64 {
    // SAFETY: clock_gettime fills the structure it is given.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// 2 GiB, every 4 KiB page touched; kept until the process ends.
pub fn ballast() -> usize {
    const BYTES: usize = 2 << 30;
    // SAFETY: a fresh anonymous mapping that nobody else uses and that is never unmapped.
    unsafe {
        let place = libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        require(place != libc::MAP_FAILED, "2 GiB are to be had");
        libc::madvise(place, BYTES, libc::MADV_NOHUGEPAGE);
        libc::memset(place, 1, BYTES);
    }
    BYTES
}

#[derive(Default)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration.as_nanos() as f64);
    }

    pub fn at(&mut self, part: f64) -> f64 {
        require(!self.0.is_empty(), "there are samples");
        self.0.sort_by(f64::total_cmp);
        self.0[(part * (self.0.len() - 1) as f64 + 0.5) as usize]
    }
}

/// The line of a run; printed by `end`, when everything was verified.
pub struct Report {
    head: String,
    also: String,
    parameters: String,
}

fn append(text: &mut String, name: &str, value: f64) {
    let comma = if text.is_empty() { "" } else { "," };
    let _ = write!(text, "{comma}\"{name}\":{value}");
}

impl Report {
    pub fn new(who: &Contender, options: &Options, unit: &str, value: f64) -> Self {
        let head = format!(
            "{{\"workload\":\"{}\",\"contender\":\"{}\",\"version\":\"{}\",\"seed\":{},\
             \"quick\":{},\"unit\":\"{unit}\",\"value\":{value}",
            options.workload, who.name, who.version, options.seed, options.quick
        );
        let mut parameters = String::new();
        append(&mut parameters, "host_outside", f64::from(u8::from(host_is_outside())));
        Self { head, also: String::new(), parameters }
    }

    pub fn also(mut self, name: &str, value: f64) -> Self {
        append(&mut self.also, name, value);
        self
    }

    pub fn latency(mut self, name: &str, samples: &mut Samples, divisor: f64) -> Self {
        for (suffix, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            append(&mut self.also, &format!("{name} {suffix}"), samples.at(part) / divisor);
        }
        self
    }

    pub fn parameter(mut self, name: &str, value: usize) -> Self {
        append(&mut self.parameters, name, value as f64);
        self
    }

    pub fn end(self) {
        println!(
            "{},\"also\":{{{}}},\"parameters\":{{{}}},\"verified\":true}}",
            self.head, self.also, self.parameters
        );
    }
}

/// What `background` reports, for every contender.
pub fn report_background(
    who: &Contender,
    options: &Options,
    passes: &mut Samples,
    grown: u64,
    spent: Duration,
) {
    let total = (options.size * passes.0.len()) as f64;
    Report::new(who, options, "ns/task", passes.at(0.5) / options.size as f64)
        .also("growth B/task", grown as f64 / total)
        .also("cpu ns/task", spent.as_nanos() as f64 / total)
        .parameter("calls", options.size)
        .parameter("passes", passes.0.len())
        .parameter("window", WINDOW)
        .end();
}

/// What `turns` reports.
pub fn report_turns(who: &Contender, options: &Options, turns: &mut Samples, took: Duration) {
    let count = turns.0.len();
    Report::new(who, options, "ns/task", took.as_nanos() as f64 / (count * options.size) as f64)
        .latency("turn µs", turns, 1e3)
        .parameter("calls", options.size)
        .parameter("turns", count)
        .end();
}

/// What `shell` reports.
pub fn report_shell(
    who: &Contender,
    options: &Options,
    turns: &mut Samples,
    took: Duration,
    spent: Duration,
    ballast: usize,
) {
    let count = turns.0.len();
    let commands = (count * options.size) as f64;
    Report::new(who, options, "µs/command", took.as_nanos() as f64 / 1e3 / commands)
        .latency("turn µs", turns, 1e3)
        .also("own cpu µs/command", spent.as_nanos() as f64 / 1e3 / commands)
        .parameter("calls", options.size)
        .parameter("turns", count)
        .parameter("ballast", ballast)
        .end();
}

/// The word that command `index` echoes.
pub fn word_of(seed: u64, index: usize) -> String {
    format!("w{index}-{:08x}", mix(seed ^ index as u64) as u32)
}

/// What an agent of the workload `agents` may ask for.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Compute,
    ReadFile,
    Wait,
    Shell,
}

impl Kind {
    pub fn draw(random: &mut Random) -> Self {
        match random.next() % 100 {
            0..70 => Self::Compute,
            70..90 => Self::ReadFile,
            90..95 => Self::Wait,
            _ => Self::Shell,
        }
    }
}

pub const COMPUTE_NS: u64 = 20_000;
pub const FILE_BYTES: usize = 4096;

pub fn compute(steps: u64) -> u64 {
    let mut value = steps;
    for _ in 0..steps {
        value = mix(value);
    }
    std::hint::black_box(value)
}

/// Steps of `compute` that take COMPUTE_NS here.
pub fn calibrate() -> u64 {
    const STEPS: u64 = 1000;
    let mut best = u128::MAX;
    for _ in 0..200 {
        let begin = Instant::now();
        compute(std::hint::black_box(STEPS));
        best = best.min(begin.elapsed().as_nanos());
    }
    STEPS * COMPUTE_NS / best.max(1) as u64
}

/// A file of 4 KiB for the readers.
pub fn make_file() -> String {
    let path = format!("/tmp/toolring-perf-{}", std::process::id());
    require(std::fs::write(&path, [b'x'; FILE_BYTES]).is_ok(), "the file is written");
    path
}

/// Plain system calls on the spot: quicker than a hop to tokio's blocking threads for 4 KiB in the
/// cache.
pub fn read_file(path: &str) -> bool {
    use std::io::Read;
    let mut bytes = [0; FILE_BYTES];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut bytes));
    matches!(read, Ok(FILE_BYTES)) && bytes[0] == b'x' && bytes[FILE_BYTES - 1] == b'x'
}

/// What `agents` reports.
pub fn report_agents(
    who: &Contender,
    options: &Options,
    turns: &mut Samples,
    took: Duration,
    spent: Duration,
    resident: u64,
) {
    let count = turns.0.len();
    Report::new(who, options, "turns/s", count as f64 / took.as_secs_f64())
        .latency("turn ms", turns, 1e6)
        .also("resident MiB", resident as f64 / 1_048_576.0)
        .also("cpu s/1000 turns", spent.as_secs_f64() * 1e3 / count as f64)
        .parameter("sessions", options.size)
        .parameter("turns", count / options.size)
        .end();
}

#[derive(Clone)]
pub struct Contender {
    pub name: &'static str,
    pub version: String,
}

/// The version of a crate in the lock file, among several the one that begins with `prefix`.
pub fn locked_version(name: &str, prefix: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let head = format!("name = \"{name}\"\nversion = \"");
    lock.split(&head)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .find(|version| version.starts_with(prefix))
        .unwrap_or("unknown")
        .to_owned()
}

/// One family of workloads; a '*' in its name stands for the size.
pub type Family = (&'static str, fn(&Contender, &Options));

fn size_of(family: &str, workload: &str) -> Option<usize> {
    match family.split_once('*') {
        None => (family == workload).then(|| size_in(workload)),
        Some((before, after)) => workload.strip_prefix(before)?.strip_suffix(after)?.parse().ok(),
    }
}

/// The number that ends a name, for families named in full.
fn size_in(workload: &str) -> usize {
    workload.rsplit('-').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The whole main of a peer; see measure_main in measure.h.
pub fn peer_main(who: &Contender, families: &[Family]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let find = |workload: &str| {
        families.iter().find_map(|family| Some((family.1, size_of(family.0, workload)?)))
    };
    if arguments.len() == 2 && arguments[0] == "--offers" {
        std::process::exit(i32::from(find(&arguments[1]).is_none()));
    }
    let mut options = Options { workload: String::new(), size: 0, seed: 1, quick: false };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--seed" => options.seed = rest.next().and_then(|text| text.parse().ok()).unwrap_or(1),
            _ => options.workload = argument,
        }
    }
    match find(&options.workload) {
        Some((run, size)) => {
            options.size = size;
            run(who, &options);
        }
        None => {
            eprintln!("usage: peer-{} WORKLOAD [--seed N] [--quick]", who.name);
            std::process::exit(2);
        }
    }
}
