//! A scrape, part by part: each is written when it is taken, so that the whole never stands in memory, and a scrape
//! that is read slowly holds nobody up.

/// A part of a scrape: the lines of one series, or of little more. Its numbers are read when it is written.
pub(super) type Part = Box<dyn FnOnce(&mut String) + Send>;

/// Bytes after which a piece is handed on.
const PIECE: usize = 64 << 10;
/// Room of a piece: the last part of it may be a histogram.
const ROOM: usize = PIECE + (32 << 10);

/// Parts, a number of them at a time.
pub(super) struct Pieces<I>(pub(super) I);

impl<I: Iterator<Item = Part>> Iterator for Pieces<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut text = String::with_capacity(ROOM);
        while text.len() < PIECE
            && let Some(part) = self.0.next()
        {
            part(&mut text);
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_when_they_are_taken() {
        let part =
            |length: usize| -> Part { Box::new(move |text| text.extend(std::iter::repeat_n('x', length))) };
        let lengths = std::iter::repeat_n(PIECE - 1, 4).chain([0, 0]).map(part);
        let never = std::iter::once_with(|| unreachable!("nobody takes it"));
        let pieces = Pieces(lengths.chain(never)).take(2);
        assert_eq!(pieces.map(|piece| piece.len()).collect::<Vec<_>>(), [2 * (PIECE - 1); 2]);
        assert!(Pieces([part(0)].into_iter()).next().is_none());
    }
}
