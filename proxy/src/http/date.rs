//! The time as HTTP writes it.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// The value of `Date` (RFC 9110 section 5.6.7), written once a second.
#[derive(Debug, Default)]
pub struct DateLine(RefCell<Option<(u64, HeaderValue)>>);

impl DateLine {
    /// The value at this time.
    pub fn at(&self, time: SystemTime) -> HeaderValue {
        let now = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut written = self.0.borrow_mut();
        match &*written {
            Some((second, value)) if *second == now => value.clone(),
            _ => written.insert((now, write(now))).1.clone(),
        }
    }
}

fn write(second: u64) -> HeaderValue {
    // Years of more than four digits have no date.
    const LAST: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs(second.min(LAST));
    HeaderValue::try_from(httpdate::fmt_http_date(time)).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_its_second() {
        let line = DateLine::default();
        let at = |second| line.at(UNIX_EPOCH + Duration::from_secs(second));
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(253_402_300_800), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
