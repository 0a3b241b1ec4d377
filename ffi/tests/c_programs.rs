//! Builds libundiffuse and the C programs beside this file, and runs them: as they are, under ASan and UBSan, and under
//! valgrind. A tool that is missing is named and its part skipped.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What each program is given.
const PROGRAMS: [(&str, &[Argument]); 14] = [
    ("abi", &[]),
    ("model", &[Argument::Network]),
    ("sampler", &[]),
    ("operator", &[]),
    ("evidence", &[]),
    ("evidence_discrete", &[]),
    ("session", &[Argument::Network]),
    ("session_given", &[Argument::Network]),
    ("bound", &[]),
    ("null", &[]),
    ("refuse", &[Argument::Network]),
    ("threads", &[Argument::Network]),
    ("finite", &[Argument::Network]),
    ("panics", &[]),
];

#[derive(Clone, Copy)]
enum Argument {
    Network,
}

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-unknown-warning-option"];

/// What a static libundiffuse needs.
const SYSTEM: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c")
}

fn network() -> PathBuf {
    root().join("tests/no_std/tiny.safetensors")
}

/// Whether a command is there, by asking for its version.
fn has(command: &str) -> bool {
    Command::new(command).arg("--version").output().is_ok_and(|o| o.status.success())
}

fn skipped(what: &str, missing: &str) {
    println!("skipped: {what}: there is no {missing} here");
}

fn success(what: impl std::fmt::Display, output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    print!("{}", text(&output.stdout));
}

/// The folder of libundiffuse.a and .so, built once with what the tests need.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let features = "inject-panic,embedded-digits,reference";
        let mut build = Command::new(cargo);
        build.args(["build", "--profile", "test", "-p", "undiffuse-lib", "--features", features]).current_dir(root());
        success("cargo build", &build.output().unwrap());
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        target.join("debug")
    })
}

/// A folder for programs.
fn output_folder(kind: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(kind);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn compile(name: &str, kind: &str, flags: &[&str]) -> PathBuf {
    let program = output_folder(kind).join(name);
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1"]).args(&WARNINGS[..4]).args(flags);
    gcc.arg("-I").arg(root().join("include")).arg("-o").arg(&program).arg(programs().join(name).with_extension("c"));
    gcc.arg(library().join("libundiffuse.a")).args(SYSTEM);
    success(format!("gcc {name}.c"), &gcc.output().unwrap());
    program
}

fn run(command: &mut Command, arguments: &[Argument]) -> Output {
    for argument in arguments {
        match argument {
            Argument::Network => command.arg(network()),
        };
    }
    command.output().unwrap()
}

#[test]
fn the_header_compiles_alone() {
    let file = output_folder("header").join("alone.c");
    fs::write(&file, "#include \"undiffuse.h\"\n#include \"undiffuse.h\"\n").unwrap();
    for (compiler, language, standards) in [
        ("gcc", "c", ["c99", "c11", "c17"]),
        ("g++", "c++", ["c++11", "c++17", "c++20"]),
        ("clang", "c", ["c99", "c11", "c17"]),
        ("clang++", "c++", ["c++11", "c++17", "c++20"]),
    ] {
        if !has(compiler) {
            skipped(&format!("the header as {standards:?}"), compiler);
            continue;
        }
        for standard in standards {
            let mut c = Command::new(compiler);
            c.args(["-fsyntax-only", "-x", language, &format!("-std={standard}")]).args(&WARNINGS[..4]);
            c.arg("-I").arg(root().join("include")).arg(&file);
            success(format!("{compiler} -std={standard}"), &c.output().unwrap());
        }
    }
}

/// As for Windows, by clang: Microsoft's extensions, and its target with the DLL.
#[test]
fn the_header_compiles_as_for_windows() {
    if !has("clang") {
        return skipped("the header as for Windows", "clang");
    }
    let file = output_folder("header").join("windows.c");
    fs::write(&file, "#include \"undiffuse.h\"\nconst char *name(void) { return undiffuse_status_name(0); }\n")
        .unwrap();
    let extensions = ["-fms-extensions", "-fms-compatibility"];
    let target = ["--target=x86_64-pc-windows-msvc", "-ffreestanding", "-DUNDIFFUSE_SHARED"];
    for (flags, language, standard) in [(&[][..], "c", "c99"), (&target, "c", "c99"), (&target, "c++", "c++17")] {
        let mut c = Command::new("clang");
        c.args(["-fsyntax-only", "-x", language, &format!("-std={standard}")]).args(&WARNINGS[..4]);
        c.args(extensions).args(flags).arg("-I").arg(root().join("include")).arg(&file);
        success(format!("clang {flags:?} {standard}"), &c.output().unwrap());
    }
}

#[test]
fn an_ignored_status_is_a_warning() {
    let file = output_folder("header").join("ignores.c");
    fs::write(&file, "#include \"undiffuse.h\"\nvoid f(undiffuse_cancel **c) { undiffuse_cancel_new(c, 0); }\n")
        .unwrap();
    for (compiler, language, standard) in [
        ("gcc", "c", "c99"),
        ("g++", "c++", "c++11"),
        ("g++", "c++", "c++17"),
        ("clang", "c", "c11"),
        ("clang++", "c++", "c++17"),
    ] {
        if !has(compiler) {
            skipped("an ignored status", compiler);
            continue;
        }
        let compile = |define: &[&str]| {
            let mut c = Command::new(compiler);
            c.args(["-c", "-o", "/dev/null", "-x", language, &format!("-std={standard}"), "-Wall", "-Werror"]);
            c.args(define).arg("-I").arg(root().join("include")).arg(&file).output().unwrap()
        };
        let refused = compile(&[]);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("unused"), "{compiler} {standard}: {text}");
        success(format!("{compiler} {standard}"), &compile(&["-DUNDIFFUSE_NO_NODISCARD"]));
    }
}

/// The names of functions that a text declares or calls.
fn functions(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let calls = text.match_indices("undiffuse_").filter(|(at, _)| !text[..*at].ends_with(is_name));
    let names = calls.map(|(at, _)| &text[at..at + text[at..].find(|c| !is_name(c)).unwrap_or(0)]);
    names.filter(|n| text.contains(&format!("{n}("))).map(str::to_string).collect()
}

#[test]
fn every_function_of_the_header_is_called() {
    let header = fs::read_to_string(root().join("include/undiffuse.h")).unwrap();
    let code: String = header.lines().filter(|l| !l.trim_start().starts_with('*')).collect::<Vec<_>>().join("\n");
    let declared = functions(code.rsplit_once("extern \"C\" {").unwrap().1);
    assert!(declared.len() > 70, "{} functions", declared.len());
    let mut called = BTreeSet::new();
    for (name, _) in PROGRAMS {
        called.extend(functions(&fs::read_to_string(programs().join(name).with_extension("c")).unwrap()));
    }
    let missing: Vec<_> = declared.difference(&called).collect();
    assert!(missing.is_empty(), "no program calls {missing:?}");
    println!("{} functions, each called by a program", declared.len());
}

/// What of the header a caller's or a callback's floats come in by: "function.argument" and "struct.field".
fn floats_that_enter(header: &str) -> BTreeSet<String> {
    let is_output = |name: &str| {
        name.ends_with("_info") || ["undiffuse_level", "undiffuse_progress", "undiffuse_step_bound"].contains(&name)
    };
    let code = header.lines().filter(|l| !l.trim_start().starts_with(['*', '/', '#'])).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    let last_word = |s: &str| s.trim_end_matches([';', ',', ')']).rsplit([' ', '*']).next().unwrap_or("").to_string();
    for part in code.split("typedef struct ").skip(1) {
        let Some((name, rest)) = part.split_once(" {") else { continue };
        let fields = rest.split_once('}').map_or("", |(fields, _)| fields);
        for field in fields.lines().map(str::trim).filter(|_| !is_output(name)) {
            if ["double ", "const double *", "const float *"].iter().any(|t| field.starts_with(t)) {
                found.insert(format!("{name}.{}", last_word(field)));
            }
        }
    }
    // What a function of the caller's writes; what a function of the library's reads.
    for part in code.split("typedef int32_t (*").skip(1) {
        let (name, arguments) = part.split_once(")(").unwrap();
        let arguments = arguments.split_once(");").unwrap().0;
        let writes = arguments.split(',').map(str::trim).filter(|a| a.starts_with("float *"));
        found.extend(writes.map(|a| format!("{name}.{}", last_word(a))));
    }
    for part in code.rsplit_once("extern \"C\" {").unwrap().1.split(';') {
        let Some((head, arguments)) = part.split_once('(') else { continue };
        let name = last_word(head);
        for argument in arguments.split(',').map(str::trim) {
            let reads = ["double sigma", "const double *", "const float *"].iter().any(|t| argument.starts_with(t));
            if (reads && !argument.contains("**")) || (name == "undiffuse_evidence_start" && argument == "float *x") {
                found.insert(format!("{name}.{}", last_word(argument)));
            }
        }
    }
    found
}

#[test]
fn nan_and_infinity_are_tried_wherever_floats_enter() {
    let header = fs::read_to_string(root().join("include/undiffuse.h")).unwrap();
    let program = fs::read_to_string(programs().join("finite.c")).unwrap();
    let floats = floats_that_enter(&header);
    let missing: Vec<_> = floats.iter().filter(|name| !program.contains(&format!("\"{name}\""))).collect();
    assert!(floats.len() > 45 && missing.is_empty(), "{} places, finite.c tries none of {missing:?}", floats.len());
    println!("{} places where floats enter, each tried", floats.len());
}

#[test]
fn programs_run() {
    if !has("gcc") {
        return skipped("the C programs", "gcc");
    }
    for (name, arguments) in PROGRAMS {
        let program = compile(name, "plain", &[]);
        success(name, &run(&mut Command::new(program), arguments));
    }
}

#[test]
fn malloc_may_refuse() {
    if !has("gcc") {
        return skipped("malloc that refuses", "gcc");
    }
    let program = compile("memory", "plain", &[]);
    success("memory", &run(&mut Command::new(program), &[Argument::Network]));
}

#[test]
fn programs_run_under_sanitizers() {
    if !has("gcc") {
        return skipped("ASan and UBSan", "gcc");
    }
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
    for (name, arguments) in PROGRAMS {
        let program = compile(name, "sanitized", &flags);
        let mut command = Command::new(program);
        command.env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1");
        success(format!("{name} under ASan and UBSan"), &run(&mut command, arguments));
    }
}

#[test]
fn programs_run_under_valgrind() {
    if !has("gcc") || !has("valgrind") {
        return skipped("valgrind", "gcc or valgrind");
    }
    for (name, arguments) in PROGRAMS {
        let program = compile(name, "plain", &[]);
        let mut command = Command::new("valgrind");
        command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible"]);
        command.args(["--errors-for-leak-kinds=definite,indirect,possible", "--fair-sched=yes"]).arg(program);
        command.env("BRIEF", "1");
        success(format!("{name} under valgrind"), &run(&mut command, arguments));
    }
}

#[test]
fn the_shared_library_exports_its_functions_alone_and_unloads() {
    if !has("nm") || !has("gcc") {
        return skipped("the shared library", "nm or gcc");
    }
    let shared = library().join("libundiffuse.so");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&shared).output().unwrap();
    success("nm", &output);
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|l| l.split_whitespace().last()).collect();
    let others: Vec<_> = names.iter().filter(|n| !n.starts_with("undiffuse_")).collect();
    assert!(names.len() > 70 && others.is_empty(), "{} names, these are not the library's: {others:?}", names.len());

    let program = output_folder("plain").join("unload");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c11", "-D_GNU_SOURCE"]).args(&WARNINGS[..4]).arg("-I").arg(root().join("include"));
    gcc.arg("-o").arg(&program).arg(programs().join("unload.c")).args([OsStr::new("-ldl"), OsStr::new("-lm")]);
    success("gcc unload.c", &gcc.output().unwrap());
    success("unload", &Command::new(program).arg(network()).arg(shared).output().unwrap());
}
