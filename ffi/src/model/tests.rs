//! Models that the C programs of ffi/tests have no files of: of classes, and without a scheduler.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

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
    let config = format!(
        r#"{{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": [8],
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
