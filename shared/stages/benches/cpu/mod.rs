//! Two ways of doing the same, by the processor time of this thread.

/// Prints events per second of both, each call of which takes so many events. Rounds of both in turn, so that others on the machine disturb
/// both alike and count for neither.
pub fn compare(ours: &str, theirs: &str, events: usize, mut run: impl FnMut(), mut run_peer: impl FnMut()) {
    const ROUNDS: usize = 40;
    const EVENTS_PER_ROUND: usize = 10_000;
    let cpu_s = || {
        // See proc(5); the first number is nanoseconds on a processor.
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
    };
    let calls = EVENTS_PER_ROUND.div_ceil(events);
    let (mut own, mut peer) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        let start = cpu_s();
        (0..calls).for_each(|_| run());
        let middle = cpu_s();
        (0..calls).for_each(|_| run_peer());
        (own, peer) = (own + middle - start, peer + cpu_s() - middle);
    }
    let all = (ROUNDS * calls * events) as f64;
    println!(
        "processor time: {ours} {:.0} events/s, {theirs} {:.0} events/s, ratio {:.2}",
        all / own,
        all / peer,
        peer / own
    );
}
