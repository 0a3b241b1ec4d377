//! Whole files of bounded size.

use alloc::string::String;
use alloc::vec::Vec;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result, ensure, err};

/// The largest file of data that is read, in bytes, and the largest array: 4 GiB.
pub const MAX_BYTES: u64 = 1 << 32;

/// The bytes of a file of at most `max`. What has no size of its own, a pipe or a device, is bounded too.
///
/// Errors name the file: kind `Io`; `InvalidArgument` if it is longer.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed, to tell.
    let read = File::open(path).and_then(|file| file.take(max.saturating_add(1)).read_to_end(&mut bytes));
    let read = read.map_err(|e| Error::from(e).context(path.display()))?;
    ensure!(read as u64 <= max, InvalidArgument, "{}: the file is longer than {max} bytes", path.display());
    Ok(bytes)
}

/// The same for UTF-8 text. Errors name the file: as above, and kind `InvalidArgument` for other bytes.
pub(crate) fn read_text(path: &Path, max: u64) -> Result<String> {
    let bytes = read_bounded(path, max)?;
    String::from_utf8(bytes).map_err(|e| err!(InvalidArgument, "{}: no UTF-8 text: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_file_has_at_most_its_bound() {
        let path = std::env::temp_dir().join(alloc::format!("undiffuse-files-{}", std::process::id()));
        std::fs::write(&path, [b'a', b'b', 0xff]).unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap(), [b'a', b'b', 0xff]);
        for (found, text) in
            [(read_bounded(&path, 2).map(drop), "longer than 2"), (read_text(&path, 3).map(drop), "UTF-8")]
        {
            let e = found.unwrap_err();
            assert!(e.message().contains(text) && e.message().contains("undiffuse-files"), "{e}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap_err().kind(), ErrorKind::Io);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_an_end_is_bounded() {
        assert!(read_bounded(Path::new("/dev/zero"), 1000).unwrap_err().message().contains("longer"));
    }
}
