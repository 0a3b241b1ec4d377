#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| undiffuse_fuzz::c_calls::c_calls(data));
