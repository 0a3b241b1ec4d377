#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| undiffuse_fuzz::onnx(data));
