//! Another Rust library in the same program, with a standard library of its own: it allocates, catches a panic and
//! starts a thread.

#[unsafe(no_mangle)]
pub extern "C" fn other_sum(n: u32) -> u32 {
    std::panic::set_hook(Box::new(|_| ()));
    let caught = std::panic::catch_unwind(|| if n == 0 { panic!("nothing to add") } else { n });
    let numbers: Vec<u32> = (0..caught.unwrap_or(10)).collect();
    std::thread::spawn(move || numbers.iter().sum()).join().unwrap_or(0)
}
