use alloc::string::ToString;
use alloc::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

#[test]
fn pythons_words_are_numbers_and_no_accessor_gives_them() {
    // json.dumps([float("nan"), float("inf"), float("-inf"), 1e999]) of CPython 3.13, and json.loads of "1e999".
    let value = parse("[NaN, Infinity, -Infinity, 1e999, -1e999]").unwrap();
    let items = value.as_array().unwrap();
    assert!(matches!(items[0], Value::Number(x) if x.is_nan()));
    assert_eq!(items[1..4], [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY].map(Value::Number));
    assert!(items.iter().all(|v| v.as_f64().is_none() && v.as_u64().is_none() && v.is_number()));
    assert_eq!(value.to_string(), "[NaN,Infinity,-Infinity,Infinity,-Infinity]");
    // Within a string they are text.
    assert_eq!(parse(r#""-Infinity""#).unwrap(), Value::from("-Infinity"));
    for text in ["nan", "inf", "Inf", "-NaN", "+Infinity", "infinity", "NaNs", "None", "True"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn values_are_what_they_say() {
    let text = r#" { "a" : [ ] , "b":{},"c" : [1, -2.5e-3, 1e5, 0, -0.0, true, false, null], "d":"\"\\\/\b\f\n\r\tA\u00e9\ud83d\ude00é" }
"#;
    let object = parse_object(text).unwrap();
    assert_eq!((object["a"].as_array(), object["b"].as_object().map(|o| o.len())), (Some(&[][..]), Some(0)));
    let numbers =
        [Value::Integer(1), Value::Number(-2.5e-3), Value::Number(1e5), Value::Integer(0), Value::Number(-0.0)];
    let others = [Value::Bool(true), Value::Bool(false), Value::Null];
    assert_eq!(object["c"], Value::Array([&numbers[..], &others].concat()));
    assert_eq!(object["d"].as_str(), Some("\"\\/\u{8}\u{c}\n\r\tAé😀é"));
    assert_eq!(parse("340282366920938463463374607431768211456").unwrap(), Value::Number(2f64.powi(128)));
    assert_eq!(parse("18446744073709551615").unwrap().as_u64(), Some(u64::MAX));
    assert_eq!(parse("1.0").unwrap().as_u64(), None);
    assert_eq!((parse("1").unwrap().as_f64(), parse("true").unwrap().as_bool()), (Some(1.0), Some(true)));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, words) in [
        ("", "line 1, column 1: the text ends, expected a value"),
        ("{\n  \"a\": 1,\n}", "line 3, column 1: found '}', expected a key in double quotes"),
        ("{'a': 1}", "column 2: found '\\'', expected a key in double quotes"),
        ("{\"a\" 1}", "found '1', expected ':'"),
        ("{\"é\": 1 \"b\"}", "column 9: found '\"', expected ',' or '}'"),
        ("[1 2]", "expected ',' or ']'"),
        ("[1,]", "column 4: found ']', expected a value"),
        ("{} {}", "found '{', expected the end of the text"),
        ("01", "expected the end"),
        ("1.", "expected a digit"),
        (".5", "found '.', expected a value"),
        ("1e", "expected a digit"),
        ("-", "found '-', expected a value"),
        ("+1", "found '+', expected a value"),
        ("\"a", "the text ends, expected the closing quote"),
        ("\"a\nb\"", "expected the closing quote"),
        (r#""\x""#, "escape"),
        (r#""\ud800""#, "escape"),
        (r#""\ud800\u0041""#, "escape"),
        (r#""\u12""#, "escape"),
        (r#"{"a": 1, "b": {"c": 1, "c": 1}}"#, "column 24: the key \"c\" stands twice"),
        ("\u{feff}{}", "expected a value"),
    ] {
        let e = parse(text).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.message().contains(words), "{text}: {e}");
    }
    assert!(parse_object("[]").unwrap_err().message().contains("a list, expected an object"));
}

#[test]
fn size_depth_and_number_of_values_are_bounded() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(parse(&nested(MAX_DEPTH + 1)).is_ok());
    for deep in [nested(MAX_DEPTH + 2), "[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
        assert!(parse(&deep).unwrap_err().message().contains("within one another"));
    }
    let many = |n: usize| format!("[{}0]", "0,".repeat(n - 2));
    assert!(parse(&many(MAX_VALUES)).is_ok());
    assert!(parse(&many(MAX_VALUES + 1)).unwrap_err().message().contains("values"));
    assert!(parse(&" ".repeat(MAX_TEXT + 1)).unwrap_err().message().contains("bytes"));
}

#[test]
fn foreign_text_in_a_message_is_short() {
    assert_eq!(parse("{\"a\\u0007\": [1, 2.0]}").unwrap().brief(), r#"{"a\u0007":[1,2.0]}"#);
    assert_eq!(Value::from("x".repeat(200)).brief().len(), 83);
    let long = format!("{{\"{0}\":1,\"{0}\":1}}", "k".repeat(10_000));
    assert!(parse(&long).unwrap_err().message().len() < 200);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC*|[\\x00-\\x7f]*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..5).prop_map(Value::Object),
        ]
    })
}

/// The same value by another reader, where there is one.
fn theirs(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => n.into(),
            (_, Some(n)) => n.into(),
            _ => n.as_f64().into(),
        },
        serde_json::Value::String(s) => s.clone().into(),
        serde_json::Value::Array(a) => Value::Array(a.iter().map(theirs).collect()),
        serde_json::Value::Object(o) => Value::Object(o.iter().map(|(k, v)| (k.clone(), theirs(v))).collect()),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in values()) {
        for text in [format!("{value}"), format!("{value:#}")] {
            prop_assert_eq!(&parse(&text).unwrap(), &value);
            if let Ok(other) = serde_json::from_str(&text) {
                prop_assert_eq!(theirs(&other), value.clone());
            } else {
                prop_assert!(text.contains("Infinity"));
            }
        }
    }

    #[test]
    fn texts_are_accepted_as_by_serde_json(text in r#"([\[\]{},:" 0-9eE.+\-]|null|true|"a"|"b"|\\u00[0-9a-g]{2}){0,12}"#) {
        let other = serde_json::from_str::<serde_json::Value>(&text);
        match (parse(&text), other) {
            (Ok(value), Ok(other)) => prop_assert_eq!(value, theirs(&other)),
            (Err(e), Ok(_)) => prop_assert!(e.message().contains("twice"), "{}", e),
            // Theirs refuses what overflows.
            (Ok(value), Err(e)) => prop_assert!(value.to_string().contains("Infinity"), "{}: {}", text, e),
            (Err(_), Err(_)) => {}
        }
    }
}

#[test]
fn texts_of_each_kind_are_built() {
    let mut map = Object::new();
    for (key, value) in [
        ("a", Value::from(1usize)),
        ("b", vec![0.5, 1.0].into()),
        ("c", None::<f64>.into()),
        ("d", Value::from("x")),
        ("e", Value::Array(vec![])),
    ] {
        map.insert(key.to_string(), value);
    }
    let value = Value::from(map);
    assert_eq!(value.to_string(), r#"{"a":1,"b":[0.5,1.0],"c":null,"d":"x","e":[]}"#);
    let pretty = "{\n  \"a\": 1,\n  \"b\": [\n    0.5,\n    1.0\n  ],\n  \"c\": null,\n  \"d\": \"x\",\n  \"e\": []\n}";
    assert_eq!(format!("{value:#}"), pretty);
}
