//! Models that the C programs of ffi/tests have no files of: of classes, and without a scheduler.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};
use std::vec;

use undiffuse::model::ModelConfig;
use undiffuse::pipeline::Source;
use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsView, TensorToWrite, write_safetensors};

use super::*;
use crate::evaluate::{undiffuse_bound_new, undiffuse_bound_options};
use crate::options::VersionedStruct as _;
use crate::run::undiffuse_session_free;
use crate::sampler::{undiffuse_sampler_free, undiffuse_sampler_from_model};
use crate::schedule::undiffuse_sampler_options;
use crate::session::{undiffuse_session_new, undiffuse_session_options};
use crate::status::undiffuse_status::*;

const SCHEDULER: &str = r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 100}"#;

/// A packed file of a small network.
fn packed(keys: &str, scheduler: Option<&str>) -> Vec<u8> {
    packed_with(1, keys, scheduler)
}

fn packed_with(inputs: usize, keys: &str, scheduler: Option<&str>) -> Vec<u8> {
    let config = format!(
        r#"{{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": {inputs}, "out_channels": 1, "block_out_channels": [8],
            "layers_per_block": 1, "norm_num_groups": 4, "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
            "add_attention": false{keys}}}"#
    );
    let graph = ModelConfig::from_json(&config).unwrap().build_any().unwrap();
    let params = graph.params();
    let tensors: Vec<_> =
        params.iter().map(|p| TensorToWrite { name: &p.name, dtype: DType::F32, shape: p.dims.as_slice() }).collect();
    let mut fill = |_: &str, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(i, o)| *o = 0.05 * (i % 7) as f32 - 0.15);
        Ok(())
    };
    let mut bytes = Vec::new();
    write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    let view = SafeTensorsView::parse(&bytes).unwrap();
    let source = Source::new(config, scheduler.map(Into::into), Box::new(view)).unwrap();
    let mut packed = Vec::new();
    source
        .pack(DType::F32, &mut |b| {
            packed.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
    packed
}

/// Calls a function that takes an error; gives its status and message.
fn call(f: impl FnOnce(*mut *mut undiffuse_error) -> undiffuse_status) -> (undiffuse_status, String) {
    let mut error = null_mut();
    let status = f(&mut error);
    if error.is_null() {
        return (status, String::new());
    }
    // SAFETY: an error of this library, not freed yet; its message ends with a NUL.
    let text = unsafe {
        let text = CStr::from_ptr(crate::status::undiffuse_error_message(error)).to_str().unwrap().to_string();
        crate::error::undiffuse_error_free(error);
        text
    };
    (status, text)
}

fn load(bytes: &[u8], scheduler: Option<&str>) -> *mut undiffuse_model {
    let (mut model, mut options) = (null_mut(), undiffuse_model_options::defaults());
    let json = scheduler.map(|s| CString::new(s).unwrap());
    options.scheduler_json = json.as_ref().map_or(null(), |j| j.as_ptr());
    // SAFETY: bytes, options and outputs live through the call.
    let done = call(|e| unsafe { undiffuse_model_load_memory(bytes.as_ptr(), bytes.len(), &options, &mut model, e) });
    assert_eq!(done, (UNDIFFUSE_OK, String::new()));
    model
}

fn free(model: *mut undiffuse_model) {
    // SAFETY: from `load`, and used no more.
    unsafe { undiffuse_model_free(model) };
}

#[test]
fn conditions_are_listed_given_and_set_between_runs() {
    use crate::condition::*;
    use crate::enums::undiffuse_input_role::{self, *};
    let model = load(&packed_with(2, r#", "num_class_embeds": 4"#, Some(SCHEDULER)), None);
    let mut info = undiffuse_model_info::defaults();
    // SAFETY: a model, and structs of the sizes that they state, here and below.
    assert_eq!(call(|e| unsafe { undiffuse_model_get_info(model, &mut info, e) }).0, UNDIFFUSE_OK);
    assert_eq!((info.input_count, info.sample_len), (4, 64));
    let listed: Vec<(String, undiffuse_input_role, usize, u32)> = (0..4)
        .map(|index| {
            let mut i = undiffuse_input_info::defaults();
            // SAFETY: as above.
            assert_eq!(call(|e| unsafe { undiffuse_model_get_input(model, index, &mut i, e) }).0, UNDIFFUSE_OK);
            // SAFETY: a name of the model, which lives; a role that the library wrote.
            let (name, role) = unsafe { (CStr::from_ptr(i.name).to_str().unwrap().to_string(), i.role.assume_init()) };
            (name, role, i.len, i.is_whole)
        })
        .collect();
    let expected = [
        ("sample", UNDIFFUSE_INPUT_SAMPLE, 64, 0),
        ("image", UNDIFFUSE_INPUT_IMAGE, 64, 0),
        ("timestep", UNDIFFUSE_INPUT_TIMESTEP, 1, 0),
        ("class_labels", UNDIFFUSE_INPUT_CLASS, 1, 1),
    ];
    assert_eq!(listed, expected.map(|(n, r, len, whole)| (n.to_string(), r, len, whole)));
    let mut i = undiffuse_input_info::defaults();
    // SAFETY: as above.
    assert_eq!(call(|e| unsafe { undiffuse_model_get_input(model, 4, &mut i, e) }).0, UNDIFFUSE_INVALID_ARGUMENT);

    let (image_name, class_name, other_name) = (c"image".as_ptr(), c"class_labels".as_ptr(), c"mask".as_ptr());
    let (image, class, none) = ([0.25f32; 64], [1.0f32], [3.0f32]);
    let of = |name, values: &[f32]| undiffuse_condition { name, values: values.as_ptr(), values_len: values.len() };
    let session = |conditions: &[undiffuse_condition], guidance: *const undiffuse_guidance| {
        let mut options = undiffuse_session_options::defaults();
        (options.conditions, options.condition_count) = (conditions.as_ptr(), conditions.len());
        options.guidance = guidance;
        let mut session = null_mut();
        // SAFETY: as above.
        let done = call(|e| unsafe { undiffuse_session_new(model, null(), null(), &options, &mut session, e) });
        (done, session)
    };
    let run = |session| {
        let (mut x, mut len) = (null(), 0);
        // SAFETY: a session, freed by the caller of this closure.
        unsafe {
            assert_eq!(call(|e| crate::run::undiffuse_session_restart(session, 0, 1, e)).0, UNDIFFUSE_OK);
            assert_eq!(call(|e| crate::run::undiffuse_session_run(session, e)), (UNDIFFUSE_OK, String::new()));
            assert_eq!(call(|e| crate::run::undiffuse_session_x(session, &mut x, &mut len, e)).0, UNDIFFUSE_OK);
            std::slice::from_raw_parts(x, len).to_vec()
        }
    };
    let refused = |conditions: &[undiffuse_condition], guidance, status, text: &str| {
        let (done, session) = session(conditions, guidance);
        assert!(session.is_null() && done.0 == status && done.1.contains(text), "{done:?}, expected {text}");
    };
    let good = [of(image_name, &image), of(class_name, &class)];
    refused(&good[..1], null(), UNDIFFUSE_INVALID_ARGUMENT, "undiffuse_session_options.classes");
    refused(&good[1..], null(), UNDIFFUSE_INVALID_ARGUMENT, "needs the condition \"image\"");
    refused(&[good[0], good[1], good[0]], null(), UNDIFFUSE_INVALID_ARGUMENT, "given twice");
    refused(&[good[0], good[1], of(other_name, &class)], null(), UNDIFFUSE_INVALID_ARGUMENT, "\"mask\"");
    refused(&[of(image_name, &image[1..]), good[1]], null(), UNDIFFUSE_SHAPE, "\"image\" has 63 values");
    refused(&[of(image_name, &[f32::NAN; 64]), good[1]], null(), UNDIFFUSE_NON_FINITE, "\"image\"");

    let (done, plain) = session(&good, null());
    assert_eq!(done, (UNDIFFUSE_OK, String::new()));
    let first = run(plain);
    let set = |session, condition: &undiffuse_condition| {
        // SAFETY: as above.
        call(|e| unsafe { undiffuse_session_set_condition(session, condition, e) })
    };
    assert_eq!(set(plain, &of(image_name, &[-0.5; 64])).0, UNDIFFUSE_OK);
    assert_ne!(first, run(plain));
    assert_eq!(set(plain, &of(image_name, &[f32::INFINITY; 64])).0, UNDIFFUSE_NON_FINITE);
    assert_eq!(set(plain, &of(other_name, &class)).0, UNDIFFUSE_INVALID_ARGUMENT);
    assert_eq!(set(plain, &good[0]).0, UNDIFFUSE_OK);
    assert_eq!(first, run(plain));
    let negative = of(class_name, &none);
    // SAFETY: as above.
    let unguided = call(|e| unsafe { undiffuse_session_set_negative(plain, &negative, e) });
    assert_eq!(unguided.0, UNDIFFUSE_INVALID_ARGUMENT);

    let mut guidance = undiffuse_guidance::defaults();
    (guidance.scale, guidance.negative, guidance.negative_count) = (3.0, &negative, 1);
    let (done, guided) = session(&good, &guidance);
    assert_eq!(done, (UNDIFFUSE_OK, String::new()));
    let with = run(guided);
    assert_ne!(first, with);
    // SAFETY: as above.
    assert_eq!(call(|e| unsafe { undiffuse_session_set_negative(guided, &good[1], e) }).0, UNDIFFUSE_OK);
    // Away from itself it is not guided, but for rounding.
    assert!(run(guided).iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-3));
    for (place, text) in [(0, "scale"), (1, "rescale"), (2, "interval"), (3, "interval")] {
        let mut bad = guidance;
        *[&mut bad.scale, &mut bad.rescale, &mut bad.interval_low, &mut bad.interval_high][place] = f64::NAN;
        refused(&good, &bad, UNDIFFUSE_INVALID_ARGUMENT, text);
    }
    let no_negative = undiffuse_guidance { negative_count: 0, ..guidance };
    refused(&good, &no_negative, UNDIFFUSE_INVALID_ARGUMENT, "negative condition");
    // SAFETY: freed once.
    unsafe {
        undiffuse_session_free(plain);
        undiffuse_session_free(guided);
    }
    free(model);
}

#[test]
fn classes_are_rows_of_the_length_that_the_info_says() {
    for (keys, len, count, expected) in [
        (r#", "num_class_embeds": 4"#, 1, 4, "whole numbers from 0 to 3"),
        (r#", "class_embed_type": "timestep""#, 1, 0, "numbers"),
        (r#", "class_embed_type": "identity""#, 32, 0, "rows of 32 values"),
        ("", 0, 0, ""),
    ] {
        let model = load(&packed(keys, Some(SCHEDULER)), None);
        let mut info = undiffuse_model_info::defaults();
        // SAFETY: a model, and a struct of the size that it states.
        assert_eq!(call(|e| unsafe { undiffuse_model_get_info(model, &mut info, e) }).0, UNDIFFUSE_OK);
        assert_eq!((info.class_len, info.class_count), (len, count), "{keys}");
        // What a program of before this field has room for.
        let mut older =
            undiffuse_model_info { struct_size: std::mem::offset_of!(undiffuse_model_info, class_len), ..info };
        older.class_len = 77;
        // SAFETY: as above.
        assert_eq!(call(|e| unsafe { undiffuse_model_get_info(model, &mut older, e) }).0, UNDIFFUSE_OK);
        assert_eq!((older.class_len, older.class_count), (77, count));

        let rows = vec![1.0f32; 2 * len.max(1)];
        let session = |classes: &[f32]| {
            let mut options = undiffuse_session_options::defaults();
            (options.classes, options.classes_len) = (classes.as_ptr(), classes.len());
            let mut session = null_mut();
            // SAFETY: a model; options and outputs live through the call; the session is freed once.
            let done = call(|e| unsafe { undiffuse_session_new(model, null(), null(), &options, &mut session, e) });
            // SAFETY: NULL or a session.
            unsafe { undiffuse_session_free(session) };
            done
        };
        let bound = |classes: &[f32]| {
            let mut options = undiffuse_bound_options::defaults();
            (options.classes, options.classes_len) = (classes.as_ptr(), classes.len());
            (options.sampled_steps, options.edges) =
                (2, MaybeUninit::new(crate::enums::undiffuse_edges::UNDIFFUSE_EDGES_NETWORK));
            let (data, mut bound) = ([0.1f32; 128], null_mut());
            // SAFETY: as for a session.
            let done = call(|e| unsafe {
                undiffuse_bound_new(model, null(), &options, data.as_ptr(), data.len(), &mut bound, e)
            });
            // SAFETY: NULL or a bound.
            unsafe { crate::evaluate::undiffuse_bound_free(bound) };
            done
        };
        let (given, refused): (&[f32], Vec<&[f32]>) =
            if len == 0 { (&[], vec![&rows]) } else { (&rows, vec![&[], &[f32::NAN; 32]]) };
        for (option, run) in [
            ("undiffuse_session_options.classes: ", &session as &dyn Fn(&[f32]) -> _),
            ("undiffuse_bound_options.classes: ", &bound),
        ] {
            for classes in &refused {
                let (status, text) = run(classes);
                assert_eq!(status, UNDIFFUSE_INVALID_ARGUMENT, "{text}");
                assert!(text.contains(option) && text.contains(expected), "{text}");
            }
            assert_eq!(run(given), (UNDIFFUSE_OK, String::new()), "{keys}");
        }
        free(model);
    }
}

#[test]
fn a_scheduler_is_missed_where_a_sampler_is_made_and_given_where_it_is_loaded() {
    let sampler = |model: *mut undiffuse_model, kind| {
        let mut options = undiffuse_sampler_options::defaults();
        (options.kind, options.steps) = (MaybeUninit::new(kind), 5);
        let mut sampler = null_mut();
        // SAFETY: a model; options and outputs live through the call; the sampler is freed once.
        let done = call(|e| unsafe { undiffuse_sampler_from_model(model, &options, &mut sampler, e) });
        // SAFETY: NULL or a sampler.
        unsafe { undiffuse_sampler_free(sampler) };
        done
    };
    let bare = packed("", None);
    let model = load(&bare, None);
    let (status, text) = sampler(model, UNDIFFUSE_SAMPLER_DDIM);
    assert_eq!(status, UNDIFFUSE_CONFIG);
    assert!(text.contains("scheduler_json in undiffuse_model_options"), "{text}");
    let mut len = 77;
    // SAFETY: a model; a NULL buffer asks for the length.
    assert_eq!(call(|e| unsafe { undiffuse_model_scheduler_json(model, null_mut(), &mut len, e) }).0, UNDIFFUSE_OK);
    assert_eq!(len, 0);
    free(model);
    // As the message advises; and any class of diffusers with betas, for the kinds that take its schedule.
    let pndm = SCHEDULER.replace("DDPM", "PNDM");
    for (file, given) in [(&bare, Some(SCHEDULER)), (&bare, Some(pndm.as_str())), (&packed("", Some(&pndm)), None)] {
        let model = load(file, given);
        for kind in [UNDIFFUSE_SAMPLER_DDIM, UNDIFFUSE_SAMPLER_DDPM] {
            assert_eq!(sampler(model, kind), (UNDIFFUSE_OK, String::new()));
        }
        free(model);
    }
    // What takes the place of a scheduler bars it from being read.
    let model = load(&packed("", Some("no JSON")), Some(SCHEDULER));
    assert_eq!(sampler(model, UNDIFFUSE_SAMPLER_OF_SCHEDULE).0, UNDIFFUSE_OK);
    free(model);
}
