// A worker that reads Markdown with formulas between dollars or TeX's brackets. It gets a text and returns marked's tokens.
import { Marked } from '../lib/marked/marked.mjs';

const some = '[^]{1,2000}?';   // a formula
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

// Cuts quotes and lists that are nested without end, which nobody can read.
const shallow = (text) => text.replace(/^(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])(?=[ \t]))){12,}/gm, (run) => run.slice(0, 24));

self.addEventListener('message', ({ data }) => self.postMessage(marked.lexer(shallow(data))));
