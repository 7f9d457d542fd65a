// Made from ../schemas by `npm run schemas`; a test fails when it is out of date.

/** A rule's condition came true and was decided to be told; the envelope's `subject` is what it is about. */
export interface AlertFiredData {
  /** The rule. */
  rule_id: string;
  /** Kind of the rule, for example `fluctuation`. */
  rule_kind: string;
  /** The value that was compared. */
  value?: number;
  /** What it was compared with. */
  threshold?: number;
  /** Start of the window of event time. */
  window_start?: string;
  /** End of the window, not part of it. */
  window_end?: string;
  /** The alert in one sentence. */
  message: string;
  /** Channels that it goes to. */
  channels?: string[];
  /** To which side the value moved. */
  direction?: "up" | "down";
  /** Name of the security, for alerts on quotes. */
  name?: string;
  /** Price that decided, for alerts on quotes. (currency) */
  price?: string;
  /** Signed difference to the previous close, for alerts on quotes. (currency) */
  change?: string;
  /** Signed change in percent, for alerts on quotes. (%) */
  change_pct?: string;
  /** ISO 4217 code of the prices, for alerts on quotes. */
  currency?: string;
}

/** What a rule had told is over; the envelope's `subject` is what it was about. */
export interface AlertResolvedData {
  /** The rule. */
  rule_id: string;
  /** Kind of the rule, for example `fluctuation`. */
  rule_kind: string;
  /** The value that was compared. */
  value?: number;
  /** What it was compared with. */
  threshold?: number;
  /** Start of the window of event time. */
  window_start?: string;
  /** End of the window, not part of it. */
  window_end?: string;
  /** The alert in one sentence. */
  message: string;
  /** Channels that it goes to. */
  channels?: string[];
  /** To which side the value moved. */
  direction?: "up" | "down";
  /** Name of the security, for alerts on quotes. */
  name?: string;
  /** Price that decided, for alerts on quotes. (currency) */
  price?: string;
  /** Signed difference to the previous close, for alerts on quotes. (currency) */
  change?: string;
  /** Signed change in percent, for alerts on quotes. (%) */
  change_pct?: string;
  /** ISO 4217 code of the prices, for alerts on quotes. */
  currency?: string;
}

/** Events whose type has no schema: the payload as it came. */
export interface EventData {
  /** Payload; one that is not an object stands as `{"value": …}`. */
  data?: unknown;
  /** Binary payload in base64, as it came. */
  data_base64?: string;
}

/** A game ended: how many squares were clicked. */
export interface GameResultData {
  /** The game; the same as in its `game.start`. */
  play_id: string;
  /** Squares that were shown. */
  total_squares: number;
  /** Squares that were clicked, 0 to `total_squares`. */
  clicked_count: number;
  /** `clicked_count` / `total_squares` × 100; the server's own computation, whatever was sent. (%) */
  success_rate?: number;
  /** From the appearance of a square to its click, in the order of the clicks. (ms) */
  reaction_ms?: number[];
  /** Clicks beside a square. */
  missed_clicks?: number;
  /** From the first square to the end. (ms) */
  duration_ms?: number;
  /** The name that the player chose to be listed under. */
  nickname?: string;
  /** Why the result is doubted, where it is. */
  suspect?: string;
}

/** A game began: the player pressed start. */
export interface GameStartData {
  /** The game; `game.result` of the same game has the same one. */
  play_id: string;
  /** When start was pressed, by the player's clock. */
  clicked_at?: string;
}

/** One HTTP request that a server answered: the product's own, or a line of an access log. */
export interface HttpAccessData {
  /** Request method. */
  method?: string;
  /** Template of the path, for example `/v1/rules/{id}`. */
  route?: string;
  /** Path of the request as it was sent, without the query. */
  path?: string;
  /** Status of the reply. */
  status: number;
  /** From the first byte of the request to the last of the reply. (ms) */
  elapsed_ms?: number;
  /** Size of the reply as the server counts it. (B) */
  bytes?: number;
  /** Address that the request says led here. */
  referer?: string;
  /** What follows the `?` of the request's target. */
  query?: string;
  /** Protocol of the request, for example `HTTP/1.1`. */
  protocol?: string;
  /** The request line where it is not `METHOD target PROTOCOL`. */
  request?: string;
  /** Client address as the log has it. */
  client_ip?: string;
  /** Client program as the log has it. */
  user_agent?: string;
}

/** One check of a target by the collector. */
export interface ProbeResultData {
  /** Name of the target; also the envelope's `subject`. */
  target: string;
  /** Address that was asked, without credentials. */
  url: string;
  /** Whether the target answered as expected. */
  status: "success" | "fail";
  /** Status of the reply, where there was one. */
  http_status?: number;
  /** From the start of the request to the end of the reply or of the try. (ms) */
  response_ms: number;
  /** Bytes of the body that were really read. (B) */
  size_bytes?: number;
  /** Why it failed. */
  error_kind?: "timeout" | "dns" | "connect" | "tls" | "http_status" | "proxy" | "refused_address" | "body_too_large" | "assertion";
  /** Why it failed, in words. */
  error?: string;
  /** How the target was asked. */
  via?: "direct" | "proxy";
}

/** A trade of a security, or a price of a period; the envelope's `subject` is the symbol. */
export interface QuoteTradeData {
  /** Code of the security; text, so that `005930` keeps its zeros. */
  symbol: string;
  /** Name of the security. */
  name?: string;
  /** ISO 4217 code of the prices, for example `KRW`. */
  currency?: string;
  /** Last price. (currency) */
  price: string;
  /** Signed difference to the previous close; absent where there is none. (currency) */
  change?: string;
  /** Signed change in percent of the previous close, as the feed rounds it. (%) */
  change_pct?: string;
  /** 1 upper limit, 2 up, 3 flat, 4 lower limit, 5 down. */
  sign?: number;
  /** First price of the day or period. (currency) */
  open?: string;
  /** Highest price of the day or period. (currency) */
  high?: string;
  /** Lowest price of the day or period. (currency) */
  low?: string;
  /** Best price asked. (currency) */
  ask1?: string;
  /** Best price bid. (currency) */
  bid1?: string;
  /** Traded in this trade or period. (shares) */
  volume?: number;
  /** Traded since the start of the day. (shares) */
  acc_volume?: number;
  /** Value traded since the start of the day. (currency) */
  acc_value?: string;
  /** Trade strength: volume bought in percent of volume sold. (%) */
  strength?: number;
  /** Trading is halted. */
  halted?: boolean;
  /** Part of the trading day, as the feed codes it. */
  hour_class?: string;
  /** Trading day in the market's zone. */
  business_date?: string;
}

/** One administrative call, refused ones included: who, when (the envelope's `time`), what, and whether it was let pass. */
export interface SluiceAuditData {
  /** Id of the key that was used, never the key. */
  who: string;
  /** What was asked, for example `rules.create`. */
  action: string;
  /** What it was asked of, for example a rule's id. */
  target?: string;
  /** `allowed`, recorded before it is done, or the code of the refusal. */
  outcome?: string;
}

/** A page view, action, goal or ping of a web page, under the names of Matomo's HTTP tracking API; text is percent-decoded, unknown parameters stand in `extra`. */
export interface WebEventData {
  /** The site, by its number. */
  idsite?: number;
  /** The request is to be recorded. */
  rec?: boolean;
  /** Hour of the visitor's local clock. (h) */
  h?: number;
  /** Minute of the visitor's local clock. (min) */
  m?: number;
  /** Second of the visitor's local clock. (s) */
  s?: number;
  /** Address of the page. */
  url?: string;
  /** Address of the page that led here. */
  urlref?: string;
  /** The visitor, as their browser remembers it. */
  _id?: string;
  /** The visitor is new. */
  _idn?: boolean;
  /** When the visitor was last led here by another site. (s since 1970) */
  _refts?: number;
  /** The browser shows PDF. */
  pdf?: boolean;
  /** The browser has QuickTime. */
  qt?: boolean;
  /** The browser has RealPlayer. */
  realp?: boolean;
  /** The browser has Windows Media. */
  wma?: boolean;
  /** The browser has Flash. */
  fla?: boolean;
  /** The browser has Java. */
  java?: boolean;
  /** The browser has Silverlight. */
  ag?: boolean;
  /** The browser keeps cookies. */
  cookie?: boolean;
  /** Screen size as `WIDTHxHEIGHT`. (px) */
  res?: string;
  /** Event category. */
  e_c?: string;
  /** Event action. */
  e_a?: string;
  /** Event name. */
  e_n?: string;
  /** Event value. */
  e_v?: number;
  /** A custom action, not a page view. */
  ca?: boolean;
  /** The member who is signed in; also the envelope's `userid`. */
  memberId?: string;
  /** The page view that the request belongs to. */
  pv_id?: string;
  /** Page performance: network. (ms) */
  pf_net?: number;
  /** Page performance: server. (ms) */
  pf_srv?: number;
  /** Page performance: transfer. (ms) */
  pf_tfr?: number;
  /** Page performance: document processing. (ms) */
  pf_dm1?: number;
  /** Page performance: document completion. (ms) */
  pf_dm2?: number;
  /** Page performance: load handlers. (ms) */
  pf_onl?: number;
  /** Title of the page or name of the action. */
  action_name?: string;
  /** Address of an outgoing link that was followed. */
  link?: string;
  /** Address of a file that was downloaded. */
  download?: string;
  /** What was searched for on the site. */
  search?: string;
  /** In which category it was searched. */
  search_cat?: string;
  /** How many results the search had. */
  search_count?: number;
  /** The goal that was reached; 0 is an order. */
  idgoal?: number;
  /** Revenue of the goal or order. */
  revenue?: string;
  /** The order. */
  ec_id?: string;
  /** The order's items: lists of SKU, name, category, price, quantity. */
  ec_items?: unknown;
  /** Content name. */
  c_n?: string;
  /** Content piece. */
  c_p?: string;
  /** Content target. */
  c_t?: string;
  /** Content interaction. */
  c_i?: string;
  /** Languages that the browser asks for. */
  lang?: string;
  /** Visits of this visitor so far. */
  _idvc?: number;
}

/** The payload of each type that has a schema. */
export interface DataByType {
  "alert.fired": AlertFiredData;
  "alert.resolved": AlertResolvedData;
  "event": EventData;
  "game.result": GameResultData;
  "game.start": GameStartData;
  "http.access": HttpAccessData;
  "probe.result": ProbeResultData;
  "quote.trade": QuoteTradeData;
  "sluice.audit": SluiceAuditData;
  "web.event": WebEventData;
}

/** Fields of `data` by type, as search knows them. */
export const FIELDS: Readonly<Record<keyof DataByType, readonly string[]>> = {
  "alert.fired": ["rule_id", "rule_kind", "value", "threshold", "window_start", "window_end", "message", "channels", "direction", "name", "price", "change", "change_pct", "currency"],
  "alert.resolved": ["rule_id", "rule_kind", "value", "threshold", "window_start", "window_end", "message", "channels", "direction", "name", "price", "change", "change_pct", "currency"],
  "event": ["data", "data_base64"],
  "game.result": ["play_id", "total_squares", "clicked_count", "success_rate", "reaction_ms", "missed_clicks", "duration_ms", "nickname", "suspect"],
  "game.start": ["play_id", "clicked_at"],
  "http.access": ["method", "route", "path", "status", "elapsed_ms", "bytes", "referer", "query", "protocol", "request", "client_ip", "user_agent"],
  "probe.result": ["target", "url", "status", "http_status", "response_ms", "size_bytes", "error_kind", "error", "via"],
  "quote.trade": ["symbol", "name", "currency", "price", "change", "change_pct", "sign", "open", "high", "low", "ask1", "bid1", "volume", "acc_volume", "acc_value", "strength", "halted", "hour_class", "business_date"],
  "sluice.audit": ["who", "action", "target", "outcome"],
  "web.event": ["idsite", "rec", "h", "m", "s", "url", "urlref", "_id", "_idn", "_refts", "pdf", "qt", "realp", "wma", "fla", "java", "ag", "cookie", "res", "e_c", "e_a", "e_n", "e_v", "ca", "memberId", "pv_id", "pf_net", "pf_srv", "pf_tfr", "pf_dm1", "pf_dm2", "pf_onl", "action_name", "link", "download", "search", "search_cat", "search_count", "idgoal", "revenue", "ec_id", "ec_items", "c_n", "c_p", "c_t", "c_i", "lang", "_idvc"],
};

/** Fields of text that search finds by words; the exact value stands under `NAME.keyword`. */
export const WORDED: ReadonlySet<string> = new Set([
  "data.action_name",
  "data.e_n",
  "data.error",
  "data.message",
  "data.name",
  "data.nickname",
  "data.path",
  "data.search",
  "data.url",
]);
