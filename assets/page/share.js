// Hands out the text on the page, and opens a trace. Downloads are made here, from what the server says; nothing is
// written anywhere else. Runs as gradio's js_on_load: element, props, server, trigger and watch are given.
const takers = [...element.querySelectorAll('[data-take]')], said = find('.share-said'), picker = find('input[type="file"]');
const spare = find('.share-copy');
let run = null;   // id of the run whose text is on the page

const say = (text, bad = false) => {
  said.textContent = text;
  said.classList.toggle('bad', bad);
  spare.hidden = true;
};

const save = (text, type, ending) => {
  const name = `citer-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${ending}`;
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say(`Saved as ${name}.`);
};

// Browsers keep the clipboard from pages that come over plain HTTP from another machine: then the text is shown, selected.
const copy = async (text, what) => {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
  } catch {
    say('The browser does not let this page copy. Here it is, selected, to copy by hand:');
    Object.assign(spare, { hidden: false, value: text });
    spare.focus();
    spare.select();
  }
};

const hand = {
  markdown: (text) => copy(text, 'as Markdown'),
  link: (query) => copy(`${location.origin}${location.pathname}?${query}`, 'the link'),
  json: (text) => save(text, 'application/json', 'json'),
  html: (text) => save(text, 'text/html', 'html'),
};

const take = async (kind) => {
  try {
    const answer = await server.take({ run, kind });
    if (!answer) return say('The server no longer has this text: generate it again.', true);
    const { text, notes } = JSON.parse(answer);
    await hand[kind](text);
    if (notes.length) said.textContent += ` ${notes.join(' ')}`;
  } catch (error) {
    console.warn(error);
    say('The server did not answer: is it still running?', true);
  }
};

const open = async (file) => {
  if (file.size > props.max_bytes) {
    return say(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; a trace of at most ${props.max_bytes / 1e6} MB can be opened.`, true);
  }
  say(`Opening ${file.name} …`);
  try {
    trigger('upload', { name: file.name, text: await file.text() });
  } catch {
    say(`${file.name} cannot be read.`, true);
  }
};

takers.forEach((button) => button.addEventListener('click', () => take(button.dataset.take)));
find('[data-open]').addEventListener('click', () => picker.click());
picker.addEventListener('change', () => {
  const [file] = picker.files;
  if (file) open(file);
  picker.value = '';   // so that the same file can be opened again
});

document.addEventListener('citer-shown', ({ detail }) => {
  if (!element.isConnected) return;
  run = detail.run;
  const there = run !== null && detail.tokens > 0 && !['waiting', 'running'].includes(detail.state);
  if (takers[0].disabled !== there) return;
  if (!there) say('');   // what was said is about a text that gives way to another
  takers.forEach((button) => { button.disabled = !there; });
});
watch('value', () => {
  if (!props.value) return;
  const { said: text, bad } = JSON.parse(props.value);
  say(text, bad);
});
