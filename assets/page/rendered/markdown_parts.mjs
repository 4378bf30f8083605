// A thread that reads Markdown, with formulas between dollars or TeX's brackets: a text comes, what marked says of it goes.
import { Marked } from '../lib/marked/marked.mjs';

const some = '[^]{1,2000}?';   // characters of a formula
const BLOCK = new RegExp(`^(?:\\$\\$(${some})\\$\\$|\\\\\\[(${some})\\\\\\])[ \\t]*(?:\\n|$)`);
const INLINE = new RegExp(`^(?:\\$\\$(${some})\\$\\$|\\\\\\[(${some})\\\\\\]|\\\\\\((${some})\\\\\\)|\\$(?![\\s$])([^$\\n]{1,200}?)(?<![\\s\\\\])\\$(?![\\d$]))`);

const maths = (name, level, pattern, begin) => ({
  name, level,
  start: (text) => { const at = text.search(begin); return at < 0 ? undefined : at; },
  tokenizer: (text) => {
    const found = pattern.exec(text);
    return found ? { type: 'math', raw: found[0], text: found.slice(1).find(Boolean), wide: /^(\$\$|\\\[)/.test(found[0]) } : undefined;
  },
});
const marked = new Marked({ extensions: [maths('blockMath', 'block', BLOCK, /\$\$|\\\[/), maths('math', 'inline', INLINE, /\$|\\[([]/)] });

// Quotes and lists within each other without end are cut: nobody can read them.
const shallow = (text) => text.replace(/^(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])(?=[ \t]))){12,}/gm, (run) => run.slice(0, 24));

self.addEventListener('message', ({ data }) => self.postMessage(marked.lexer(shallow(data))));
