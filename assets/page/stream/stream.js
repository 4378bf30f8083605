// The generated text, token by token: what the server says about it, and when what of it is drawn. Every text that came
// from a model is written with textContent.
import { openChannel } from '../lib/channel.js';
import { finder, listen, perFrame, say } from '../lib/dom.js';
import { counted, percent, restPercent } from '../lib/format.js';
import { ACCEPTANCE, AUTHOR, LLM, LLM_BITS, LLM_TOP, RATIO, SLM_BITS, SLM_TOP, TEXT, THRESHOLD } from '../lib/threshold.js';
import { startRendered } from '../rendered/rendered.js';
import { startAudit } from './audit.js';
import { differing } from './difference.js';
import { startInspector } from './inspector.js';
import { startOrigin } from './origin.js';
import { startPointer } from './pointer.js';
import { startPreview } from './preview.js';
import { startTaken } from './taken.js';
import { Text } from './text.js';

const ENDS = { eos: 'Done: the text ended itself', stop: 'Done: a stop string came up',
  length: 'Done: the token limit is reached', cancelled: 'Stopped' };
const STATES = { idle: 'Nothing written yet', waiting: 'Reading the prompt …', running: 'Writing …', stopped: 'Stopped',
  failed: 'Failed' };

const isNarrow = window.matchMedia('(width <= 860px)'), isCalm = window.matchMedia('(prefers-reduced-motion: reduce)');

const sameToken = (a, b) => a?.[TEXT] === b?.[TEXT] && a?.[AUTHOR] === b?.[AUTHOR];

export const start = (gradio) => {
  const { element } = gradio, find = finder(element), text = new Text(find('.stream-text'));
  const inspect = startInspector(text, gradio), parts = [startAudit, startOrigin, startPreview, startRendered, startTaken].map((part) => part(text, gradio));
  startPointer(text, gradio, inspect);

  // Looked up once: a search goes through all tokens, and this is drawn with each of them.
  const [textBox, stateLine, slm, llm, total] = ['.stream-text', '.stream-state', '[data-count="slm"]', '[data-count="llm"]', '[data-count="all"]'].map(find);
  const more = find('.stream-more');
  more.addEventListener('click', () => gradio.trigger('change_text', { kind: 'continue' }));
  const follow = find('.stream-follow');
  const ask = (prompt, words) => {
    prompt.value = words;
    prompt.dispatchEvent(new Event('input', { bubbles: true }));
  };
  let answered = '';   // the prompt that gave way to the next one
  follow.addEventListener('click', () => {
    const prompt = document.querySelector('#prompt textarea');
    answered = prompt.value === text.message.asked?.[0] ? prompt.value : '';   // anything else is what comes next, typed already
    if (answered) ask(prompt, '');
    gradio.trigger('follow_up', { run: text.message.run });
    prompt.focus();
  });
  listen(element, 'citer-unfollowed', () => {   // refused: what was asked is not lost
    const prompt = document.querySelector('#prompt textarea');
    if (answered && !prompt.value) ask(prompt, answered);
  });
  const jumps = element.querySelectorAll('[data-kind="llm"] [data-jump]');

  const drawCounts = () => {
    const all = text.tokens.length, count = text.tokens.filter((token) => token[AUTHOR] === LLM).length;
    const part = (some, share) => (all ? `${some} · ${share(count / all)}` : '–');
    say(slm, part(all - count, restPercent));
    say(llm, part(count, percent));
    say(total, all ? counted(all, 'token') : '');
    jumps.forEach((button) => { button.disabled = count === 0; });
    if (all && !text.foreign) document.dispatchEvent(new CustomEvent('citer-count', { detail: { n: text.message.n, tokens: all.toLocaleString('en'), share: percent(count / all) } }));
    find('.key-changed').hidden = text.changed.size === 0;
  };

  const drawState = (message = text.message) => {
    const state = message?.state ?? 'idle';
    Object.assign(stateLine.dataset, { state, run: message?.n ?? '' });
    say(stateLine, message?.note || (STATES[state] ?? ENDS[message?.finish] ?? 'Done'));
    more.hidden = !(text.over && !text.foreign && text.message.more);
    follow.hidden = !(text.over && !text.foreign && text.message.chat && text.tokens.length);
    const { run = null, row = null, recorded = false, whole = true } = text.message ?? {};
    textBox.classList.toggle('awaits', text.awaited);
    document.dispatchEvent(new CustomEvent('citer-shown', { detail: { run, row, recorded, state, whole, tokens: text.tokens.length, awaited: text.awaited } }));
  };

  const draw = () => {
    text.draw();
    drawCounts();
    drawState();
    for (const drawPart of parts) drawPart();
    inspect(text.current);
  };
  const schedule = perFrame(draw);

  const channel = openChannel(gradio, (message, skip, fresh, have) => {
    if (fresh && message.count === 0 && !message.kept) {   // the last text stays until there is a new one, but is no more what was asked for
      text.awaited = ['waiting', 'running'].includes(message.state) && text.tokens.length > 0;
      drawState(message);
      for (const drawPart of parts) drawPart();
      return;
    }
    if (fresh) {
      document.dispatchEvent(new CustomEvent('citer-run'));
      text.foreign = text.awaited = false;
    }
    if (fresh || text.tokens.length > have) text.replace(text.tokens.slice(0, have), have);
    if (fresh) for (const token of text.tokens) Object.assign(token, { [THRESHOLD]: message.threshold, [ACCEPTANCE]: message.acceptance });
    text.message = { ...message, asked: message.asked ?? text.message?.asked };
    text.tokens.push(...message.tokens.slice(skip));
    for (const [index, ratio] of message.verdicts) if (text.tokens[index]) text.tokens[index][RATIO] = ratio;
    for (const [index, author, list, bits] of message.revealed) {
      const [top, entropy] = author === LLM ? [LLM_TOP, LLM_BITS] : [SLM_TOP, SLM_BITS];
      if (text.tokens[index]) Object.assign(text.tokens[index], { [top]: list, [entropy]: bits });
    }
    schedule();
  });

  // A text of a sweep, shown without asking the server; what differs from the text before it is marked.
  listen(element, 'citer-text', ({ detail: { tokens, complete, note, about, recorded, swept, whole, run, row } }) => {
    const old = text.tokens, differs = tokens.findIndex((token, i) => !sameToken(token, old[i])), kept = differs < 0 ? tokens.length : differs;
    if (text.foreign && kept === old.length && kept === tokens.length && text.message.note === note && text.message.whole === whole) return;
    text.foreign = true;
    text.awaited = false;
    text.replace(tokens, kept, old.length ? differing(old, tokens) : undefined);
    channel.forget();
    text.message = { n: '', state: complete ? 'done' : 'running', note, about, finish: complete ? 'eos' : null, fixed: true, policy: '', recorded, swept, whole, run, row };
    schedule();
  });

  // On a telephone the text stands below the prompt: whoever asks for one is taken there.
  listen(element, 'click', ({ target }) => {
    if (!target.closest?.('#generate') || !isNarrow.matches || !document.querySelector('#prompt textarea')?.value.trim()) return;
    element.scrollIntoView({ block: 'start', behavior: isCalm.matches ? 'auto' : 'smooth' });
  });

  draw();
  channel.receive();
  document.dispatchEvent(new CustomEvent('citer-text-wanted'));   // a recorded text may have been there before this
};
