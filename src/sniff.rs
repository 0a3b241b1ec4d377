//! What a file seems to be that is not what was expected: the usual mishaps of downloads and exports, for the end of a
//! message.

/// A clause with a semicolon in front, empty where nothing is known. `start` is how the file begins; 8 bytes are enough
/// for most.
pub(crate) fn seems_to_be(start: &[u8]) -> &'static str {
    // A page may begin with spaces.
    let text = start.trim_ascii_start();
    let begins = |word: &[u8]| text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    match start {
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => {
            "; it looks like a PyTorch pickle (.bin, .pt): convert it with examples/export/convert_bin.py"
        }
        // "version https://git-lfs.github.com/spec/v1"
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "; it looks like a Git LFS pointer, which names a file that was not fetched: `git lfs pull` does that"
        }
        [b'G', b'G', b'U', b'F', ..] => "; it looks like a GGUF file, a format that is not read",
        [0x89, b'H', b'D', b'F', ..] => "; it looks like an HDF5 file, a format that is not read",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "; it looks like a NumPy array",
        _ if begins(b"<!doctyp") || begins(b"<html") || begins(b"<?xml") => {
            "; it looks like a web page: was the page about the file saved and not the file?"
        }
        _ if begins(b"{\"") || begins(b"{\n") => "; it looks like a JSON text",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::seems_to_be;

    #[test]
    fn mishaps_are_known_by_their_first_bytes() {
        for (start, word) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid"[..], "Git LFS"),
            (b"version ", "Git LFS"),
            (b"<!DOCTYPE html>", "web page"),
            (b"\n <html>", "web page"),
            (b"PK\x03\x04", "pickle"),
            (b"\x80\x02}q", "pickle"),
            (b"GGUF\x03", "GGUF"),
            (b"\x89HDF\r\n", "HDF5"),
            (b"\x93NUMPY\x01", "NumPy"),
            (b"{\"a\": 1}", "JSON"),
        ] {
            assert!(seems_to_be(start).contains(word), "{word}");
        }
        for start in [&b""[..], b"PK", b"versions", b"\0\0\0\0\0\0\0\0", b"<svg"] {
            assert_eq!(seems_to_be(start), "");
        }
    }
}
