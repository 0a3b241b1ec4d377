//! What the edge of chaos is for: a network of many layers learns from there, and not from where signals fade.

use std::path::Path;
use std::sync::Arc;

use undiffuse::Cancel;
use undiffuse::backend::cpu::pool::Pool;
use undiffuse::training::config::TrainConfig;
use undiffuse::training::trainer::Trainer;

/// 20 hidden layers on the binary heartbeat; `init` is that key's value. The bound over the last steps, in bits per
/// bin, and chi_1.
fn trained(init: &str) -> (f64, f64) {
    let widths = vec!["32"; 20].join(", ");
    let config = TrainConfig::from_json(&format!(
        r#"{{
            "model": {{"_class_name": "Mlp2015", "features": 20, "hidden_features": [{widths}], "center_input_sample": true,
                "num_train_timesteps": 50}},
            "scheduler": {{"_class_name": "Bits2015Scheduler", "num_train_timesteps": 50, "pi": 0.2,
                "beta_schedule": "erasing_evenly", "bit_prediction": "clean"}},
            "data": {{"kind": "heartbeat", "count": 2000}},
            "loss": {{"kind": "bound", "end": "network"}},
            "learning_rate": 1e-3, "init": {init}, "batch": 200, "steps": 300, "seed": 1
        }}"#
    ))
    .unwrap();
    let mut trainer = Trainer::new(config, Path::new("."), Arc::new(Pool::with_all_cores().unwrap())).unwrap();
    let mut last = Vec::new();
    while !trainer.is_done() {
        last.push(trainer.step(&Cancel::new()).unwrap().loss);
    }
    let mean = last.iter().rev().take(50).sum::<f64>() / 50.0;
    (-mean, trainer.mean_field().unwrap().chi_1())
}

#[test]
fn twenty_layers_learn_from_the_edge_of_chaos() {
    let (faded, chi) = trained("{}");
    let (edge, chi_edge) = trained(r#"{"critical": {}}"#);
    println!(
        "chi_1 {chi:.3}: K {faded:.3} bits per bin; chi_1 {chi_edge:.3}: {edge:.3}; L_null -0.722, the truth -0.116"
    );
    assert!((chi - 0.50125).abs() < 1e-6 && (chi_edge - 1.0).abs() < 1e-9);
    assert!(edge > faded + 0.1, "{edge} {faded}");
}

#[test]
fn init_critical_is_read_and_what_it_does_not_suit_is_refused_by_name() {
    let text = |model: &str, init: &str| {
        format!(
            r#"{{"model": {model}, "scheduler": {{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 40}},
            "data": {{"kind": "swiss_roll", "count": 100}}, "loss": {{"kind": "bound"}}, "learning_rate": 1e-3, "batch": 10,
            "steps": 1, "init": {init}}}"#
        )
    };
    let read = |init: &str| TrainConfig::from_json(&text("{}", init));
    assert_eq!(read(r#"{"critical": {"sigma_b": 0.2}}"#).unwrap().init.critical, Some(0.2));
    assert_eq!(read(r#"{"critical": {}}"#).unwrap().init.critical, Some(0.0));
    assert_eq!(read("{}").unwrap().init.critical, None);
    for (init, says) in [
        (r#"{"critical": true}"#, "expected an object"),
        (r#"{"critical": {"sigma": 1}}"#, "init.critical.sigma"),
        (r#"{"critical": {"sigma_b": -1}}"#, "init.critical.sigma_b"),
    ] {
        let e = read(init).unwrap_err();
        assert!(e.message().contains(says), "{e}");
    }
    let rbf = text(r#"{"_class_name": "Rbf2015", "num_train_timesteps": 40}"#, r#"{"critical": {}}"#);
    let pool = Arc::new(Pool::new(1).unwrap());
    let e = Trainer::new(TrainConfig::from_json(&rbf).unwrap(), Path::new("."), pool).err().unwrap();
    assert!(e.message().contains("init.critical is for Mlp2015, not for Rbf2015"), "{e}");
}
