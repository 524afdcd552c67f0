//! Reads expressions, top-down: `||` binds weaker than `&&`, `&&` weaker than comparisons.

use std::time::Duration;

use http::HeaderName;

use super::{Attribute, Comparison, Expression, FilterError, Kind, Literal, Simple, TextTest};

/// The longest expression, in bytes.
const MAX_SOURCE: usize = 4 << 10;
/// The deepest nesting of brackets and `!`.
const MAX_DEPTH: usize = 32;

type Result<T> = std::result::Result<T, FilterError>;

/// Reads a whole expression.
pub(super) fn expression(source: &str) -> Result<Expression> {
    let mut parser = Parser { source, at: 0 };
    if source.len() > MAX_SOURCE {
        return parser.fail(format!("{} bytes, more than {MAX_SOURCE}", source.len()));
    }
    let expression = parser.any(0)?;
    parser.blank();
    if parser.at < source.len() {
        return parser.fail("expected && or || or the end");
    }
    Ok(expression)
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
}

/// One side of a comparison.
enum Operand {
    Attribute(Attribute),
    Literal(Literal),
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Expression> {
        self.joined("||", Expression::Any, |parser| parser.all(depth))
    }

    fn all(&mut self, depth: usize) -> Result<Expression> {
        self.joined("&&", Expression::All, |parser| parser.unary(depth))
    }

    fn joined(
        &mut self,
        by: &str,
        join: fn(Vec<Expression>) -> Expression,
        one: impl Fn(&mut Self) -> Result<Expression>,
    ) -> Result<Expression> {
        let first = one(self)?;
        let mut all = vec![first];
        while self.takes(by) {
            all.push(one(self)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { join(all) })
    }

    fn unary(&mut self, depth: usize) -> Result<Expression> {
        if depth > MAX_DEPTH {
            return self.fail(format!("nested deeper than {MAX_DEPTH}"));
        }
        if self.takes("!") {
            return Ok(Expression::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.takes("(") {
            let inner = self.any(depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.takes_word("has") {
            self.expect("(")?;
            let attribute = self.attribute()?;
            self.expect(")")?;
            return Ok(Expression::Has(attribute));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression> {
        match self.operand()? {
            Operand::Attribute(attribute) => self.after_attribute(attribute),
            Operand::Literal(Literal::Text(name)) if self.takes_word("in") => self.in_headers(&name),
            Operand::Literal(literal) => {
                let how = self.operator()?.mirrored();
                let attribute = self.attribute()?;
                self.compare(attribute, how, literal)
            }
        }
    }

    /// `'name' in request.headers`.
    fn in_headers(&mut self, name: &str) -> Result<Expression> {
        self.blank();
        if self.word() != "request.headers" {
            return self.fail("expected request.headers");
        }
        self.skip_word();
        Ok(Expression::Has(Attribute::RequestHeader(self.header(name)?)))
    }

    fn after_attribute(&mut self, attribute: Attribute) -> Result<Expression> {
        if self.rest().starts_with('.') {
            self.at += 1;
            return self.text_test(attribute);
        }
        if self.takes_word("in") {
            return Ok(Expression::In(attribute.clone(), self.list(&attribute)?));
        }
        self.blank();
        if attribute.kind() == Kind::Flag && !self.rest().starts_with(['=', '!', '<', '>']) {
            return Ok(Expression::True(attribute));
        }
        let how = self.operator()?;
        let start = self.literal_start();
        let literal = self.literal()?;
        self.compare_at(start, attribute, how, literal)
    }

    fn text_test(&mut self, attribute: Attribute) -> Result<Expression> {
        let test = match self.word() {
            "startsWith" => TextTest::StartsWith,
            "endsWith" => TextTest::EndsWith,
            "contains" => TextTest::Contains,
            other => {
                let other = other.to_owned();
                return self
                    .fail(format!("`{other}` is not honoured; startsWith, endsWith and contains are"));
            }
        };
        self.skip_word();
        self.expect("(")?;
        let Literal::Text(text) = self.literal()? else { return self.fail("expected a text") };
        self.expect(")")?;
        Ok(Expression::Text(attribute, test, text))
    }

    fn list(&mut self, attribute: &Attribute) -> Result<Vec<Literal>> {
        self.expect("[")?;
        let mut list = Vec::new();
        loop {
            let start = self.literal_start();
            let literal = self.literal()?;
            self.same_kind(start, attribute, &literal)?;
            list.push(literal);
            if !self.takes(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(list)
    }

    fn compare(&mut self, attribute: Attribute, how: Comparison, literal: Literal) -> Result<Expression> {
        self.compare_at(self.at, attribute, how, literal)
    }

    fn compare_at(
        &mut self,
        at: usize,
        attribute: Attribute,
        how: Comparison,
        with: Literal,
    ) -> Result<Expression> {
        self.same_kind(at, &attribute, &with)?;
        let ordered = !matches!(how, Comparison::Equal | Comparison::NotEqual);
        if ordered && attribute.kind() == Kind::Flag {
            self.at = at.saturating_sub(2);
            return self.fail("true and false have no order");
        }
        Ok(Expression::Compare(attribute, how, with))
    }

    fn same_kind(&mut self, at: usize, attribute: &Attribute, literal: &Literal) -> Result<()> {
        let (kind, called) = match attribute.kind() {
            Kind::Number => (matches!(literal, Literal::Number(_)), "a number"),
            Kind::Text => (matches!(literal, Literal::Text(_)), "a text"),
            Kind::Flag => (matches!(literal, Literal::Flag(_)), "true or false"),
            Kind::Time => (matches!(literal, Literal::Time(_)), "a duration, such as duration('1s')"),
        };
        if kind {
            return Ok(());
        }
        self.at = at;
        self.fail(format!("expected {called}"))
    }

    fn operand(&mut self) -> Result<Operand> {
        self.blank();
        let known = |c: char| c.is_ascii_digit() || matches!(c, '-' | '\'' | '"');
        let is_literal =
            self.rest().starts_with(known) || matches!(self.word(), "true" | "false" | "duration");
        if is_literal {
            self.literal().map(Operand::Literal)
        } else {
            self.attribute().map(Operand::Attribute)
        }
    }

    fn attribute(&mut self) -> Result<Attribute> {
        self.blank();
        let word = self.word();
        if word.is_empty() {
            return self.fail("expected a value such as response.code");
        }
        if word == "request.headers" {
            self.skip_word();
            self.expect("[")?;
            let Literal::Text(name) = self.literal()? else { return self.fail("expected a header's name") };
            self.expect("]")?;
            return Ok(Attribute::RequestHeader(self.header(&name)?));
        }
        // A test such as `.startsWith` follows the attribute's own dots.
        let longest = Simple::ALL.iter().filter(|simple| begins_with(word, simple.name()));
        match longest.max_by_key(|simple| simple.name().len()) {
            Some(simple) => {
                self.at += simple.name().len();
                Ok(Attribute::Simple(*simple))
            }
            None => self.fail(format!("`{word}` is not known; known are {}, request.headers", known())),
        }
    }

    fn header(&mut self, name: &str) -> Result<HeaderName> {
        match HeaderName::try_from(name) {
            Ok(name) => Ok(name),
            Err(_) => self.fail(format!("`{name}` is no header's name")),
        }
    }

    fn operator(&mut self) -> Result<Comparison> {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let operators = [
            ("==", Equal),
            ("!=", NotEqual),
            ("<=", LessOrEqual),
            (">=", GreaterOrEqual),
            ("<", Less),
            (">", Greater),
        ];
        for (text, how) in operators {
            if self.takes(text) {
                return Ok(how);
            }
        }
        self.blank();
        if self.rest().starts_with('=') {
            return self.fail("`=` compares nothing; write ==");
        }
        self.fail("expected what to compare with: ==, !=, <, <=, >, >= or in")
    }

    fn literal_start(&mut self) -> usize {
        self.blank();
        self.at
    }

    fn literal(&mut self) -> Result<Literal> {
        self.blank();
        if self.rest().starts_with(['\'', '"']) {
            return self.text().map(|text| Literal::Text(text.into()));
        }
        match self.word() {
            flag @ ("true" | "false") => {
                let flag = flag == "true";
                self.skip_word();
                Ok(Literal::Flag(flag))
            }
            "duration" => self.time(),
            _ => self.number(),
        }
    }

    fn time(&mut self) -> Result<Literal> {
        self.skip_word();
        self.expect("(")?;
        let at = self.literal_start();
        let text = self.text()?;
        let Some(time) = duration(&text) else {
            self.at = at;
            return self.fail(format!("`{text}` is no duration; write such as 1.5s, 200ms, 1m"));
        };
        self.expect(")")?;
        Ok(Literal::Time(time))
    }

    fn number(&mut self) -> Result<Literal> {
        let digits = self
            .rest()
            .bytes()
            .enumerate()
            .take_while(|(i, b)| b.is_ascii_digit() || (*i == 0 && *b == b'-'));
        let text = &self.rest()[..digits.count()];
        match text.parse() {
            Ok(number) => {
                self.at += text.len();
                Ok(Literal::Number(number))
            }
            Err(_) => self.fail("expected a value: a number, a text in quotes, true or false"),
        }
    }

    /// A text in either kind of quotes, where a backslash takes the next character as it is.
    fn text(&mut self) -> Result<String> {
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map(|(_, c)| c).filter(|c| matches!(c, '\'' | '"'));
        let Some(quote) = quote else { return self.fail("expected a text in quotes") };
        let mut text = String::new();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => {
                    self.at += i + 1;
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        self.fail("the text has no end")
    }

    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')));
        let word = &rest[..end.unwrap_or(rest.len())];
        if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word } else { "" }
    }

    fn skip_word(&mut self) {
        self.at += self.word().len();
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.blank();
        let is = self.word() == word;
        if is {
            self.skip_word();
        }
        is
    }

    fn takes(&mut self, text: &str) -> bool {
        self.blank();
        let is = self.rest().starts_with(text);
        if is {
            self.at += text.len();
        }
        is
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.takes(text) { Ok(()) } else { self.fail(format!("expected `{text}`")) }
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(FilterError { at: self.at, what: what.into() })
    }
}

impl Comparison {
    /// The same with its sides exchanged.
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }
}

fn begins_with(word: &str, name: &str) -> bool {
    word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn known() -> String {
    Simple::ALL.iter().map(|simple| simple.name()).collect::<Vec<_>>().join(", ")
}

/// `1.5s`, `200ms`, `2m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let seconds = match &text[unit..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = text[..unit].parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}
