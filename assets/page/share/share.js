// Hands out the text on the page, and opens a trace. Downloads are made here, from what the server says; nothing is
// written anywhere else.
import { follow } from '../lib/channel.js';
import { finder, listen } from '../lib/dom.js';
import { copy, save } from '../lib/take.js';

const TYPES = { json: 'application/json', html: 'text/html' };   // of what is saved; the others are copied

export const start = ({ element, props, server, trigger, watch }) => {
  const find = finder(element), said = find('.share-said'), spare = find('.share-copy'), picker = find('input[type="file"]');
  const takers = [...element.querySelectorAll('[data-take]')];
  let run = null;   // id of the run whose text is on the page

  const sayLine = (text, bad = false) => {
    said.textContent = text;
    said.classList.toggle('bad', bad);
    spare.hidden = true;
  };

  const saveAs = (text, kind) => {
    const name = `citer-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${kind}`;
    save(name, TYPES[kind], text);
    sayLine(`Saved as ${name}.`);
  };

  // Where the browser refuses, the text is shown, selected.
  const copyOrShow = async (text, what, show = false) => {
    const copied = await copy(text);
    sayLine(copied ? `Copied ${what}.` : 'The browser does not let this page copy. Here it is, selected, to copy by hand:');
    if (copied && !show) return;
    Object.assign(spare, { hidden: false, value: text });
    if (copied) return;
    spare.focus();
    spare.select();
  };

  const take = async (kind) => {
    try {
      const answer = await server.take({ run, kind });
      if (!answer) return sayLine('The server no longer has this text: generate it again.', true);
      const { text, notes } = JSON.parse(answer);
      if (kind in TYPES) saveAs(text, kind);
      else if (kind === 'link') await copyOrShow(`${location.origin}${location.pathname}?${text}`, 'the link');
      else if (kind === 'program') await copyOrShow(text.replace('{address}', () => new URL('v1', document.baseURI).href), 'three lines for a program', true);
      else await copyOrShow(text, 'as Markdown');
      if (notes.length) said.textContent += ` ${notes.join(' ')}`;
    } catch (error) {
      console.warn(error);
      sayLine('The server did not answer: is it still running?', true);
    }
  };

  const open = async () => {
    const [file] = picker.files, { max_bytes: most } = props;
    if (!file) return;
    const { name, size } = file;
    if (size > most) return sayLine(`${name} has ${(size / 1e6).toFixed(1)} MB; a trace of at most ${most / 1e6} MB can be opened.`, true);
    sayLine(`Opening ${name} …`);
    try {
      trigger('upload', { name, text: await file.text() });
    } catch {
      sayLine(`${name} cannot be read.`, true);
    }
  };
  const openPicked = () => open().finally(() => { picker.value = ''; });   // so that the same file can be opened again

  for (const button of takers) button.addEventListener('click', () => take(button.dataset.take));
  find('[data-open]').addEventListener('click', () => picker.click());
  picker.addEventListener('change', openPicked);
  openPicked();   // picked before this script was there
  listen(element, 'citer-shown', ({ detail }) => {
    run = detail.run;
    const there = run !== null && detail.tokens > 0 && !['waiting', 'running'].includes(detail.state);
    if (takers[0].disabled !== there) return;
    if (!there) sayLine('');   // what was said is about a text that gives way to another
    for (const button of takers) button.disabled = !there;
  });
  follow({ props, watch }, (message) => { if (message) sayLine(message.said, message.bad); });
};
