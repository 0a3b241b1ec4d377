//! Ctrl-C and its like end a run cleanly.

use undiffuse::{Cancel, Error, ErrorKind, Result};

static CANCEL: Cancel = Cancel::new();

/// From now on SIGINT, SIGTERM and SIGHUP (or the console's events) set the flag that this gives.
pub fn install() -> Result<&'static Cancel> {
    ctrlc::set_handler(|| CANCEL.cancel())
        .map_err(|e| Error::new(ErrorKind::Unsupported, format!("Ctrl-C cannot be caught: {e}")))?;
    Ok(&CANCEL)
}
