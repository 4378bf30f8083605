// The window's feed is one connection that brings what is written. It is open while something is written; gradio only starts jobs.
// When it opens, the panels say which jobs they have completely, so nothing comes twice after a broken connection.
import { announce } from '../lib/dom.js';
import { isWriting } from '../lib/stop.js';
import { former, remember } from './window.js';

export const start = ({ element, props, trigger, watch }) => {
  let source = null, retry = 0, failures = 0;   // connection, timer, failures to open in a row
  let expects = false;   // whether something was started that has sent nothing yet

  const close = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };

  const open = () => {
    expects = true;
    if (source || !props.value || !element.isConnected) return;   // gradio sets the value, the feed's key, after the page has loaded
    clearTimeout(retry);
    const have = {};
    announce('citer-have', have);
    let opened = false;
    expects = false;
    source = new EventSource(`${props.path}/${props.value}?${new URLSearchParams(have)}`);
    source.addEventListener('open', () => { opened = true; });
    source.addEventListener('quiet', () => {
      close();
      if (expects) open();   // something was started while this message was on its way
    });
    for (const panel of props.panels) {
      source.addEventListener(panel, ({ data }) => {
        expects = false;
        announce('citer-news', { panel, data });
      });
    }
    // A broken connection is opened again. If that fails twice, gradio is asked for everything, repeatedly while something is written.
    source.addEventListener('error', () => {
      close();
      failures = opened ? 0 : failures + 1;
      if (failures > 1) trigger('unreached');
      if (failures < 2 || isWriting()) retry = setTimeout(open, failures < 2 ? 300 : 2000);
    });
  };

  const tellKey = () => {
    if (!props.value) return;
    announce('citer-key', props.value);
    if (props.value === former) remember(former);
    if (expects || props.value === former) open();   // `former` has texts from before the page was loaded
  };

  watch('value', tellKey);
  tellKey();
  document.addEventListener('citer-start', () => {
    if (props.value) remember(props.value);
    open();
  });
  // The text is written on before gradio has answered, so the feed opens as soon as the dials are released.
  document.addEventListener('citer-commit', () => { if (document.querySelector('.stream-text .t')) open(); });
  if (isWriting()) open();   // the start was clicked before this script was loaded
};
