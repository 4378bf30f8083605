// The prompts as they were read, below the box they stand in: pasted text is read as it changes, a file goes into the box.
// A file is read here and sent as it is, so that none is stored; what is refused changes nothing. Every text is written
// with textContent. Runs as gradio's js_on_load.
const box = () => document.querySelector('#tune-prompts textarea');
const button = (name) => find(`[data-do="${name}"]`);
const PAUSE = 250;   // milliseconds without a key before the text is read
let asked = 0, timer = null, reading = null, source = '', before = null;

const say = (selector, text) => {
  const node = find(selector);
  node.textContent = text;
  node.hidden = text === '';
};

const draw = (read) => {
  say('.tune-refused', '');
  const answers = read.answers === 0 ? 'none with an answer' : read.answers === read.count ? 'each with an answer' : `${read.answers} with an answer`;
  const kind = source || (read.kind === 'lines' ? 'one per line' : read.kind);
  say('.tune-read', `${read.count} prompt${read.count === 1 ? '' : 's'}, ${answers} · ${kind}`);
  find('.tune-rows').hidden = false;
  find('.tune-rows').classList.toggle('bare', read.answers === 0);
  find('tbody').replaceChildren(...read.rows.map((cells) => {
    const row = document.createElement('tr');
    row.append(...cells.map((text) => Object.assign(document.createElement('td'), { textContent: text })));
    return row;
  }));
  const more = read.count - read.rows.length;
  const unused = read.unused.length ? `Not used: ${read.unused.join(', ')}.` : '';
  say('.tune-more', [more > 0 ? `and ${more} more.` : '', unused].filter(Boolean).join(' '));
};

const clear = () => {
  for (const selector of ['.tune-refused', '.tune-read', '.tune-more']) say(selector, '');
  find('.tune-rows').hidden = true;
};

// Resolves to what was read, or null where it was refused or something newer was asked.
const read = async (data) => {
  const number = ++asked;
  let answer;
  try {
    answer = JSON.parse(await server.read_prompts(data));
  } catch (error) {
    answer = { error: 'The prompts could not be read: the server does not answer. Try again.' };
  }
  if (number !== asked) return null;
  if (!answer.error) return answer;
  say('.tune-refused', answer.error);
  return null;
};

const readBox = () => {
  clearTimeout(timer);
  timer = null;
  reading = drawBox();
  return reading;
};

const drawBox = async () => {
  const text = box().value;
  if (!text.trim()) { asked++; return clear(); }
  const answer = await read({ text });
  if (answer) return draw(answer);
  if (!find('.tune-refused').hidden) { say('.tune-read', ''); say('.tune-more', ''); find('.tune-rows').hidden = true; }
};

const fill = (text) => {
  const node = box();
  before = node.value.trim() && node.value !== text ? node.value : null;
  button('back').hidden = before === null;
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(node, text);
  node.dispatchEvent(new Event('input', { bubbles: true }));
};

const bytes = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(',') + 1));
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

const take = async (file) => {
  await (timer ? readBox() : reading);   // what was just typed is read first, or one answer would take the other's place
  if (file.size > props.max_bytes) {
    asked++;
    return say('.tune-refused', `${file.name}: ${file.size.toLocaleString('en')} bytes; at most ${props.max_bytes.toLocaleString('en')} are taken. ${props.limits} Split it.`);
  }
  let content = '';
  try { content = file.size ? await bytes(file) : ''; } catch { return say('.tune-refused', `${file.name} cannot be read. Try again.`); }
  const answer = await read({ name: file.name, file: content });
  if (!answer) return;
  fill(answer.text);
  clearTimeout(timer);   // it is read already
  timer = null;
  source = file.name;
  draw(answer);
};

say('.tune-limits', `Or a .csv, .jsonl or .txt file. ${props.limits}`);
document.addEventListener('input', (event) => {
  if (!element.isConnected || !event.target.closest?.('#tune-prompts')) return;
  source = '';
  clearTimeout(timer);
  timer = setTimeout(readBox, PAUSE);
});
button('upload').addEventListener('click', () => find('input').click());
find('input').addEventListener('change', (event) => {
  const [file] = event.target.files;
  if (file) take(file).finally(() => { find('input').value = ''; });   // so that the same file can be chosen again
});
button('example').addEventListener('click', () => fill(props.example));
button('back').addEventListener('click', () => { fill(before); });
