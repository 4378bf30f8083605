// Markdown, code and maths of a model's text as elements. The text never becomes markup: marked finds the parts, and every element is
// made here, with a name from this file and text in it. HTML, links and pictures stay text, so nothing is loaded and nothing can be
// clicked. KaTeX writes only MathML, and its commands that could do more are off.
import katex from '../lib/katex/katex.mjs';
import { make } from '../lib/dom.js';
import { visible } from '../lib/format.js';

const MOST = 50_000, DEEP = 12;   // characters; levels of lists and quotes
const PATIENCE = 2000;   // milliseconds; a hostile text could take minutes to read
const MATHML = 'http://www.w3.org/1998/Math/MathML';
const OPTIONS = { output: 'mathml', trust: false, throwOnError: true, strict: 'ignore', maxExpand: 200, maxSize: 20 };

let reader = null;   // a worker, since a worker can be ended

const parts = (text) => new Promise((resolve, reject) => {
  reader ??= new Worker(new URL('./markdown_parts.mjs', import.meta.url), { type: 'module' });
  const end = (settle, value) => {
    clearTimeout(late);
    settle(value);
  };
  const fail = () => {
    reader.terminate();
    reader = null;
    end(reject, new Error('this text cannot be read as Markdown'));
  };
  const late = setTimeout(fail, PATIENCE);
  reader.onmessage = ({ data }) => end(resolve, data);
  reader.onerror = fail;
  reader.postMessage(text);
});

const formula = ({ text, raw, wide }) => {
  const node = make('span', wide ? 'rendered-wide' : '');
  try {
    katex.render(text, node, { ...OPTIONS, displayMode: wide });
    const own = [...node.querySelectorAll('.katex *')].every(({ namespaceURI }) => namespaceURI === MATHML);
    return own ? node : raw;
  } catch {
    return raw;
  }
};

const within = (tag, className, children) => {
  const node = make(tag, className);
  node.append(...children);
  return node;
};

const listOf = ({ ordered, start, items }, deep) => {
  const list = within(ordered ? 'ol' : 'ul', '', items.map(({ tokens }) => within('li', '', nodesOf(tokens, deep))));
  if (ordered && Number.isInteger(start) && start >= 0) list.start = start;
  return list;
};

const tableOf = ({ header, rows }, deep) => {
  const line = (cells, tag) => within('tr', '', cells.map(({ tokens }) => within(tag, '', nodesOf(tokens, deep))));
  return within('table', '', [within('thead', '', [line(header, 'th')]), within('tbody', '', rows.map((row) => line(row, 'td')))]);
};

const TAGS = { paragraph: 'p', blockquote: 'blockquote', strong: 'strong', em: 'em', del: 'del' };

const nodeOf = (token, deep) => {
  const { type, raw, text, tokens } = token, children = () => nodesOf(tokens, deep + 1);
  if (deep > DEEP) return [raw];
  if (type in TAGS) return [within(TAGS[type], '', children())];
  if (type === 'heading') return [within('p', `rendered-heading level-${token.depth}`, children())];   // the page's outline has no headings of a text
  if (type === 'code') return [within('pre', '', [make('code', '', text)])];
  if (type === 'codespan') return [make('code', '', text)];
  if (type === 'list') return [listOf(token, deep + 1)];
  if (type === 'table') return [tableOf(token, deep + 1)];
  if (type === 'math') return [formula(token)];
  if (type === 'link') return [...children(), ...(token.href === text ? [] : [` (${token.href})`])];
  if (type === 'checkbox') return [token.checked ? '☑ ' : '☐ '];
  if (type === 'br' || type === 'hr') return [make(type)];
  if (type === 'space') return [];
  if (type === 'text' || type === 'escape') return tokens ? children() : [text];
  return [raw];   // HTML, pictures and all others
};
const nodesOf = (tokens = [], deep = 0) => tokens.flatMap((token) => nodeOf(token, deep));

// Resolves to a text's nodes; a text that is too long stays as it is. Rejects if the text cannot be read in time.
export const rendered = async (text) => {
  const clean = visible(text);
  return clean.length > MOST ? [clean] : nodesOf(await parts(clean));
};
