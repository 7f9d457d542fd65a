//! `simulate [SEED [RUNS]]`: random schedules from a seed on, until one fails; that one is printed, as short as it can be made.

use sluice_simulation::schedule::{explain, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Ok(first), Ok(runs)) = (numbers.next().unwrap_or(Ok(0)), numbers.next().unwrap_or(Ok(1_000_000))) else {
        eprintln!("usage: simulate [SEED [RUNS]]");
        return ExitCode::FAILURE;
    };
    let started = Instant::now();
    let (next, failing, moves) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs.min(failing.load(Ordering::Relaxed)) {
                        return;
                    }
                    match run(first.wrapping_add(number)) {
                        Ok(seen) => _ = moves.fetch_add(seen.moves as u64, Ordering::Relaxed),
                        Err(_) => _ = failing.fetch_min(number, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let failing = failing.into_inner();
    if failing == u64::MAX {
        println!("{runs} schedules from seed {first} hold ({} moves, {seconds:.0} s)", moves.into_inner());
        return ExitCode::SUCCESS;
    }
    let seed = first.wrapping_add(failing);
    println!("seed {seed} fails, after {} schedules", failing + 1);
    match explain(seed) {
        Ok(_) => println!("but not when it is repeated: something in it does not come from the seed"),
        Err(failure) => {
            failure.seen.trace.iter().for_each(|line| println!("  {line}"));
            let kept = (0..failure.seen.disturbances).filter(|n| !failure.without.contains(n)).count();
            println!("{} ({kept} disturbances are needed)", failure.what);
        }
    }
    println!("again: make simulate SEED={seed} RUNS=1");
    ExitCode::FAILURE
}
