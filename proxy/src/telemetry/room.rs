//! Room for lines: there before it is needed, so that what is written asks for it only where a line does not fit.
//!
//! Most of what a line consists of is short. It is copied as a block of a fixed size, of which only the head counts:
//! that takes a few instructions and no call.

/// Bytes of a block.
pub(super) const BLOCK: usize = 48;
/// The room that the first line finds.
const FIRST: usize = 64 << 10;

/// What is written, and room for more.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: Vec<u8>,
    used: usize,
}

/// Room that is left. Every method that writes says `None` where it is too little.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

/// Bytes that never change.
#[derive(Debug)]
pub(super) struct Constant {
    block: [u8; BLOCK],
    used: usize,
    /// What did not fit into the block.
    more: Box<[u8]>,
}

impl Room {
    /// What is written.
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// Forgets what is written.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Appends what `fill` writes; begins it again with more room until it fits.
    pub(super) fn write(&mut self, mut fill: impl FnMut(&mut Rest<'_>) -> Option<()>) {
        loop {
            let mut rest = Rest { bytes: &mut self.bytes[self.used..], used: 0 };
            if fill(&mut rest).is_some() {
                self.used += rest.used;
                return;
            }
            self.bytes.resize(FIRST.max(self.bytes.len() * 2), 0);
        }
    }
}

impl Rest<'_> {
    /// Appends the head of a block.
    #[inline(always)]
    pub(super) fn block<const N: usize>(&mut self, block: &[u8; N], used: usize) -> Option<()> {
        *self.bytes.get_mut(self.used..)?.first_chunk_mut::<N>()? = *block;
        self.used += used;
        Some(())
    }

    /// Appends bytes that never change.
    #[inline(always)]
    pub(super) fn constant(&mut self, constant: &Constant) -> Option<()> {
        self.block(&constant.block, constant.used)?;
        if constant.more.is_empty() { Some(()) } else { self.copy(&constant.more) }
    }

    /// Appends the head of some bytes.
    #[inline(always)]
    pub(super) fn head(&mut self, of: &[u8], length: usize) -> Option<()> {
        match of.first_chunk::<BLOCK>() {
            Some(block) if length <= BLOCK => self.block(block, length),
            _ => self.copy(of.get(..length).unwrap_or_default()),
        }
    }

    /// Appends bytes.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.used..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.used += bytes.len();
        Some(())
    }

    /// Appends one byte.
    #[inline(always)]
    pub(super) fn push(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.used)? = byte;
        self.used += 1;
        Some(())
    }

    /// Appends a number.
    #[inline(always)]
    pub(super) fn number(&mut self, number: u64) -> Option<()> {
        if number < 10 { self.push(b'0' + number as u8) } else { self.digits(number) }
    }

    /// Most have two or three digits: a status, milliseconds, bytes.
    #[inline(never)]
    fn digits(&mut self, number: u64) -> Option<()> {
        let digit = |unit: u64| b'0' + (number / unit % 10) as u8;
        match number {
            0..100 => self.block(&[digit(10), digit(1)], 2),
            100..1000 => self.block(&[digit(100), digit(10), digit(1)], 3),
            _ => self.many_digits(number),
        }
    }

    #[inline(never)]
    fn many_digits(&mut self, mut number: u64) -> Option<()> {
        let digits = number.ilog10() as usize + 1;
        for digit in self.bytes.get_mut(self.used..)?.get_mut(..digits)?.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.used += digits;
        Some(())
    }
}

impl Constant {
    /// Ready to be copied.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (head, more) = bytes.split_at(bytes.len().min(BLOCK));
        let mut block = [0; BLOCK];
        block[..head.len()].copy_from_slice(head);
        Self { block, used: head.len(), more: more.into() }
    }

    /// What they are.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.block[..self.used].iter().chain(&*self.more).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(rest: &mut Rest<'_>, constant: &Constant, text: &[u8]) -> Option<()> {
        rest.constant(constant)?;
        for number in [0, 10, 99, 100, 207, 999, 1000, 10_203] {
            rest.number(number)?;
        }
        rest.number(u64::MAX)?;
        rest.push(b' ')?;
        rest.head(&text[3..], 2)?;
        rest.head(&text[3..], 60)?;
        rest.copy(b"\n")
    }

    #[test]
    fn whatever_does_not_fit_is_written_again() {
        let text: Vec<u8> = (b'0'..b'z').collect();
        let constant = Constant::of(&[b'c'; 2 * BLOCK + 1]);
        let (mut room, mut expected) = (Room::default(), Vec::new());
        for _ in 0..1000 {
            room.write(|rest| fill(rest, &constant, &text));
            expected.extend([b'c'; 2 * BLOCK + 1]);
            expected.extend(format!("01099100207999100010203{} ", u64::MAX).bytes());
            expected.extend([&text[3..5], &text[3..63], b"\n"].concat());
        }
        assert_eq!(room.written(), expected);
        room.clear();
        assert_eq!(room.written(), b"");
    }
}
